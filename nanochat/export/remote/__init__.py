"""Modules that ``nanochat export`` puts beside a model. They use transformers and torch alone."""
