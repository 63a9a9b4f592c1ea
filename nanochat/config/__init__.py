"""Configuration: what a preset and ``--set`` may say, and how one dial (depth) derives the rest."""
