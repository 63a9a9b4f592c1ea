"""The GPT: architecture, attention, key-value cache, loss."""
