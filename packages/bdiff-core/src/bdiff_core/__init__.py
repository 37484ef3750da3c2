"""Chunk-causal Wan-family diffusion transformer, causal video VAE and the generation loop.

Example:
    >>> model = ChunkDiT(tiny())
    >>> latents, text = torch.randn(1, 16, 5, 8, 8), torch.randn(1, 12, 384)
    >>> model(latents, torch.ones(1, 5), text).shape
    torch.Size([1, 16, 5, 8, 8])
"""

from importlib.metadata import version

from bdiff_core.attention import Gather
from bdiff_core.checkpoint import load_transformer, save_transformer
from bdiff_core.config import ModelConfig
from bdiff_core.context import Context, LayerKV, chunk_slots, prepare_context
from bdiff_core.model import ChunkDiT, TextStates
from bdiff_core.presets import PRESETS, skyreels_v2_df_1_3b, tiny, wan21_1_3b, wan21_14b

__version__ = version("bdiff-core")

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # transformer
    "PRESETS",
    "ChunkDiT",
    "Gather",
    "ModelConfig",
    "TextStates",
    "load_transformer",
    "save_transformer",
    "skyreels_v2_df_1_3b",
    "tiny",
    "wan21_1_3b",
    "wan21_14b",
    # context
    "Context",
    "LayerKV",
    "chunk_slots",
    "prepare_context",
]
