"""Text to token ids: the tokenizer, its training, chat rendering, and a look inside."""
