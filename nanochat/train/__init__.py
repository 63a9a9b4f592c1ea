"""Training: the loop, its state, checkpoints, and reinforcement learning."""
