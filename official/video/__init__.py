"""Self-supervised video learning: what every method of the library shares."""
