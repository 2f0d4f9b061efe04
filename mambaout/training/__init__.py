"""Training: the optimiser, its schedule and the loop."""
