"""Transformers on disk: in our format, in that of diffusers, and in that of Wan 2.1 and the projects based on it.

Example:
    >>> from bdiff_core import ChunkDiT, load_transformer, save_transformer, tiny
    >>> save_transformer(ChunkDiT(tiny()), "for-diffusers", format="diffusers")
    >>> open_checkpoint("for-diffusers").format
    'diffusers'
    >>> model = load_transformer("for-diffusers", dtype=torch.bfloat16)
"""

from bdiff_core.checkpoint.names import split
from bdiff_core.checkpoint.reading import Checkpoint, Format, load_transformer, open_checkpoint
from bdiff_core.checkpoint.writing import save_transformer
from bdiff_core.config import NativeMode

__all__ = ["Checkpoint", "Format", "NativeMode", "load_transformer", "open_checkpoint", "save_transformer", "split"]
