"""What a run is told: experiments, flags, registries, methods."""
