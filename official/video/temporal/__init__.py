"""Temporal action localization: features of sliding windows, and a detector on them."""
