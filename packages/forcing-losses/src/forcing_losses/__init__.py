"""Flow matching, Block Forcing and Self Forcing losses on plain tensors."""
