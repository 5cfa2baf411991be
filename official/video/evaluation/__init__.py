"""Scores of features and predictions, computed from NumPy arrays."""
