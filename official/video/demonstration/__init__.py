"""What `demo` does: the whole way, at a size for a laptop, with labels and without."""
