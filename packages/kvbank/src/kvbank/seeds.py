"""Random generators whose seed is a pure function of their purpose and of some numbers."""

import hashlib

import torch


def seeded_generator(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator that depends on its arguments alone, never on how much was drawn before."""
    digest = hashlib.sha256("/".join([purpose, *map(str, numbers)]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
