"""What stands between a backbone and a task."""
