"""The metrics of the paper, and the freeze check."""
