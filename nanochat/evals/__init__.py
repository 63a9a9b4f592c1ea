"""Measurements of a model, each with its n and, where it is a share or a mean, its interval."""
