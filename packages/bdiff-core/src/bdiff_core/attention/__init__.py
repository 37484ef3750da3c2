"""Attention: which kernel, and the chunks that a training step picks from a video."""

from bdiff_core.attention.backends import BACKENDS, Backend, choose_attention
from bdiff_core.attention.gather import Gather

__all__ = ["BACKENDS", "Backend", "Gather", "choose_attention"]
