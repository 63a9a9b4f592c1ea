"""Optimizers: Muon for matrices, AdamW for tables and scalars, and the schedules of both."""
