"""What a run would be and cost, without running it."""
