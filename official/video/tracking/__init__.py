"""Following a box through a video."""
