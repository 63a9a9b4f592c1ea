"""Inference: batched generation with a KV cache, the calculator tool, sampling, chat sessions."""
