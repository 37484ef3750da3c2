"""What is generated in a comparison: the transformer's sizes, the latents of a chunk, the steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bdiff import defaults
from bdiff_core import ChunkDiT, ModelConfig, load_transformer, wan21_1_3b
from bdiff_core.checkpoint import open_checkpoint
from bdiff_core.costs import ChunkShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One setting in which everybody is timed."""

    title: str
    config: ModelConfig
    """Of the transformer."""
    chunk: ChunkShape
    """Latents of a chunk."""
    steps: int
    """Denoising steps a chunk."""
    shift: float
    """Of the denoising grid; what is computed does not depend on it."""
    weights: Path | None = None
    """Folder of the transformer; None: random weights."""

    @property
    def tokens(self) -> int:
        """Of a chunk."""
        return self.config.num_tokens(self.chunk.frames, self.chunk.height, self.chunk.width)


def shipped() -> Shape:
    """The model that ships, in what it makes: chunks of 5 latent frames of 64 x 64 pixels."""
    sampling = defaults.Sampling.of_model(defaults.WEIGHTS)
    folder = defaults.WEIGHTS / "transformer"
    return Shape(
        title="the shipped model",
        config=open_checkpoint(folder).config,
        chunk=ChunkShape(frames=sampling.latent_frames, height=sampling.height // 8, width=sampling.width // 8),
        steps=sampling.steps,
        shift=sampling.shift,
        weights=folder,
    )


def wide() -> Shape:
    """Layers as wide as those of the 1.3B models, only two of them, on small frames.

    Text is short, as its share of the work is in the real ones, where a chunk has thousands of tokens.
    """
    config = replace(wan21_1_3b(), num_layers=2, text_dim=256, text_length=16)
    chunk = ChunkShape(frames=5, height=8, width=12)
    return Shape(title="two layers of the 1.3B models", config=config, chunk=chunk, steps=8, shift=3.0)


def wan() -> Shape:
    """The 1.3B models at 832 x 480: 3 latent frames a chunk, 4 steps, as the distilled ones are sampled."""
    chunk = ChunkShape(frames=3, height=60, width=104)
    return Shape(title="1.3B at 832 x 480", config=wan21_1_3b(), chunk=chunk, steps=4, shift=5.0)


def toy() -> Shape:
    """Small enough for a test; heads are as wide as flex attention wants them at least."""
    config = ModelConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=64, text_dim=12, text_length=6, freq_dim=16)
    return Shape(title="a toy", config=config, chunk=ChunkShape(frames=2, height=8, width=8), steps=2, shift=3.0)


SHAPES: dict[str, Callable[[], Shape]] = {"default": shipped, "wide": wide, "wan-1.3b": wan, "toy": toy}


def make_transformer(shape: Shape, *, device: str, dtype: torch.dtype) -> ChunkDiT:
    """The transformer of a shape: its weights, or random ones, none of them zero."""
    if shape.weights is not None:
        return load_transformer(shape.weights, device=device, dtype=dtype).eval()
    torch.manual_seed(0)
    with torch.device(device):
        model = ChunkDiT(shape.config)
    nn.init.normal_(model.head.project.weight, std=0.02)
    return model.to(dtype).eval()
