"""Chunk-causal Wan-family diffusion transformer, causal video VAE and the generation loop."""

from bdiff_core.attention import Gather
from bdiff_core.config import ModelConfig
from bdiff_core.context import Context, LayerKV, prepare_context
from bdiff_core.model import ChunkDiT, TextStates
from bdiff_core.presets import PRESETS, skyreels_v2_df_1_3b, tiny, wan21_1_3b, wan21_14b

__all__ = [
    # transformer
    "PRESETS",
    "ChunkDiT",
    "Gather",
    "ModelConfig",
    "TextStates",
    "skyreels_v2_df_1_3b",
    "tiny",
    "wan21_1_3b",
    "wan21_14b",
    # context
    "Context",
    "LayerKV",
    "prepare_context",
]
