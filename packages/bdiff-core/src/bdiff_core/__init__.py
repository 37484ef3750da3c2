"""Chunk-causal Wan-family diffusion transformer, causal video VAE and the generation loop.

Example:
    >>> model = ChunkDiT(tiny())
    >>> latents, text = torch.randn(1, 16, 5, 8, 8), torch.randn(1, 12, 384)
    >>> model(latents, torch.ones(1, 5), text).shape
    torch.Size([1, 16, 5, 8, 8])
"""

from importlib.metadata import version

from bdiff_core import costs
from bdiff_core.attention.layers import TextStates
from bdiff_core.checkpoint import load_transformer, save_transformer
from bdiff_core.config import ModelConfig
from bdiff_core.context import Context, LayerKV, chunk_slots, prepare_context
from bdiff_core.generate import Chunk, generate
from bdiff_core.model import ChunkDiT
from bdiff_core.plan import ChunkCondition, plan_chunks
from bdiff_core.presets import PRESETS, skyreels_v2_df_1_3b, tiny, wan21_1_3b, wan21_14b
from bdiff_core.protocols import Decoder, Memory, Noise
from bdiff_core.solvers import Renoising, Scheduled, Solver, Step, euler
from bdiff_core.storyboard import Storyboard
from bdiff_core.text import EncodedText, SentenceTextEncoder, TextEncoder
from bdiff_core.vae import CausalVAE, VAEConfig, load_vae, save_vae

__version__ = version("bdiff-core")

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # the loop
    "generate",
    "Chunk",
    "Memory",
    "Noise",
    "Decoder",
    # what to show
    "Storyboard",
    "plan_chunks",
    "ChunkCondition",
    "TextEncoder",
    "EncodedText",
    "SentenceTextEncoder",
    # steps from noise to clean
    "euler",
    "Renoising",
    "Scheduled",
    "Solver",
    "Step",
    # transformer
    "ChunkDiT",
    "ModelConfig",
    "TextStates",
    "PRESETS",
    "tiny",
    "wan21_1_3b",
    "wan21_14b",
    "skyreels_v2_df_1_3b",
    "load_transformer",
    "save_transformer",
    # context
    "prepare_context",
    "Context",
    "LayerKV",
    "chunk_slots",
    # autoencoder
    "CausalVAE",
    "VAEConfig",
    "load_vae",
    "save_vae",
    # what a model costs
    "costs",
]
