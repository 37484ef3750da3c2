"""What the memory costs: time, exactness, memory."""
