"""What is generated in a comparison: sizes of the transformer, latents of a chunk, steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bdiff import Sampling, defaults
from bdiff_core import ChunkDiT, ModelConfig, costs, load_transformer, wan21_1_3b
from bdiff_core.checkpoint import open_checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerShape:
    """One setting in which all contestants are timed."""

    title: str
    """Its name on the page."""
    config: ModelConfig
    """Sizes of the transformer."""
    chunk: costs.ChunkShape
    """Latents of a chunk."""
    steps: int
    """Denoising steps a chunk."""
    shift: float
    """Shift of the denoising grid; time does not depend on it."""
    weights: Path | None = None
    """Folder of the transformer; None: random weights."""

    @property
    def tokens(self) -> int:
        """Tokens of a chunk."""
        return self.config.num_tokens(self.chunk.frames, self.chunk.height, self.chunk.width)


def shipped() -> PeerShape:
    """The shipped model: chunks of 5 latent frames of 64 x 64 pixels."""
    sampling = Sampling.of_model(defaults.WEIGHTS)
    folder = defaults.WEIGHTS / "transformer"
    return PeerShape(
        title="the shipped model",
        config=open_checkpoint(folder).config,
        chunk=costs.ChunkShape(frames=sampling.latent_frames, height=sampling.height // 8, width=sampling.width // 8),
        steps=sampling.steps,
        shift=sampling.shift,
        weights=folder,
    )


def wide() -> PeerShape:
    """Two layers as wide as those of the 1.3B models, on small frames.

    Text is short, so that its share of the work is as small as in real models, whose chunks have thousands of tokens.
    """
    config = replace(wan21_1_3b(), num_layers=2, text_dim=256, text_length=16)
    chunk = costs.ChunkShape(frames=5, height=8, width=12)
    return PeerShape(title="two layers of the 1.3B models", config=config, chunk=chunk, steps=8, shift=3.0)


def wan() -> PeerShape:
    """The 1.3B models at 832 x 480: 3 latent frames a chunk, 4 steps, as distilled models are sampled."""
    chunk = costs.ChunkShape(frames=3, height=60, width=104)
    return PeerShape(title="1.3B at 832 x 480", config=wan21_1_3b(), chunk=chunk, steps=4, shift=5.0)


def toy() -> PeerShape:
    """Small enough for a test; heads have the least width that flex attention takes."""
    config = ModelConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=64, text_dim=12, text_length=6, freq_dim=16)
    return PeerShape(
        title="a toy", config=config, chunk=costs.ChunkShape(frames=2, height=8, width=8), steps=2, shift=3.0
    )


SHAPES: dict[str, Callable[[], PeerShape]] = {"default": shipped, "wide": wide, "wan-1.3b": wan, "toy": toy}


def make_transformer(shape: PeerShape, *, device: str, dtype: torch.dtype) -> ChunkDiT:
    """The transformer of a shape: its weights, or random ones, none of them zero."""
    if shape.weights is not None:
        return load_transformer(shape.weights, device=device, dtype=dtype).eval()
    torch.manual_seed(0)
    with torch.device(device):
        model = ChunkDiT(shape.config)
    nn.init.normal_(model.head.project.weight, std=0.02)
    return model.to(dtype).eval()
