"""Synthetic action videos: what moves, how it is drawn, encoded and annotated."""
