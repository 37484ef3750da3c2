"""Embeddings as vectors."""

import torch
from jaxtyping import Float
from torch import Tensor


def unit(vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """The vectors scaled to length 1. Zeros stay zeros."""
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-12)
