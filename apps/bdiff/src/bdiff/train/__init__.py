"""Training: the run that every trainer shares, and the trainers."""
