"""Time of a training step beside the machine's matrix products."""
