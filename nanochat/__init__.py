"""The library: everything about the model, nothing about orchestration."""
