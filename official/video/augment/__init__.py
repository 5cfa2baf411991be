"""Geometric and photometric augmentation, and the policies made of them."""
