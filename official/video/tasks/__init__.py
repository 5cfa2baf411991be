"""Tasks that every method shares."""
