"""Parameter groups of the optimizer."""
