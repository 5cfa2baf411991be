"""Losses: pure functions of tensors, of the global batch where they contrast."""
