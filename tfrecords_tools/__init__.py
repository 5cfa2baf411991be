"""Command lines that make, check and show the TFRecords that training reads."""
