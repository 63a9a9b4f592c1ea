"""Models on their way elsewhere, and those of nanochat on their way here."""
