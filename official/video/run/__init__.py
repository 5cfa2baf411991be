"""Running an experiment: the trainer, its controller, the run's folder, signals."""
