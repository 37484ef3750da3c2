"""What a model costs before it is loaded: parameters, bytes of keys and values, operations of a pass."""

from dataclasses import dataclass

import torch

from bdiff_core.config import ModelConfig
from bdiff_core.model import ChunkDiT


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkShape:
    """Latent frames, rows and columns of a chunk."""

    frames: int
    height: int
    width: int


def num_parameters(config: ModelConfig) -> int:
    """Parameters of a `ChunkDiT`, without making one."""
    with torch.device("meta"):
        model = ChunkDiT(config)
    return sum(p.numel() for p in model.parameters())


def kv_bytes(config: ModelConfig, num_tokens: int, *, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of so many tokens in all layers, for one guidance branch."""
    return 2 * config.num_layers * config.dim * num_tokens * dtype.itemsize


def pass_flops(config: ModelConfig, shape: ChunkShape, *, context_tokens: int = 0) -> int:
    """Floating-point operations of one pass of one branch over a chunk; a multiplication and an addition are two.

    Only matrix products and attention are counted; norms, rotations and activations are bound by memory. Keys and
    values of the text are made once a chunk, see `text_flops`.

    Args:
        config: The transformer.
        shape: Size of the chunk, in latents.
        context_tokens: Tokens of earlier chunks that each layer sees.
    """
    dim, tokens = config.dim, config.num_tokens(shape.frames, shape.height, shape.width)
    pixels = config.patch_size[1] * config.patch_size[2]
    seen = tokens + context_tokens
    weights = 3 * dim**2 + dim**2 + 2 * dim**2 + 2 * dim * config.ffn_dim  # q, k, v; out; cross q and out; feed-forward
    image_tokens = 0 if config.image_dim is None else (config.image_length or 257)
    attended = seen + config.text_length + image_tokens
    layer = 2 * tokens * weights + 4 * tokens * attended * dim
    ends = 2 * tokens * dim * (config.in_channels * pixels + config.patch_dim)
    time = 2 * shape.frames * (config.freq_dim * dim + 7 * dim**2)
    return config.num_layers * layer + ends + time


def text_flops(config: ModelConfig) -> int:
    """Operations of the projection of one prompt and of its keys and values in every layer."""
    projection = config.text_dim * config.dim + config.dim**2
    return 2 * config.text_length * (projection + config.num_layers * 2 * config.dim**2)
