"""Heads: what maps a pooled backbone feature to an embedding or to class scores."""
