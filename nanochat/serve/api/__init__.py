"""The routes that programs call: OpenAI's, and what operating a server takes."""
