"""Checkpoints: loud restores, and the logical names of variables."""
