"""Torch blocks that two or more models share, losses, negative sampling, and the one training loop."""
