"""Up: the services of a config side by side, under their limits, while they are developed."""
