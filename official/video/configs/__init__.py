"""Configuration dataclasses of what every method shares."""
