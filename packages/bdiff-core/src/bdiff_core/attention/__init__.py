"""Attention: which kernel, and the chunks that a training step picks from a video."""

from bdiff_core.attention.backends import BACKENDS, Backend, choose_attention
from bdiff_core.attention.pass_layout import Gather, PassLayout

__all__ = ["BACKENDS", "Backend", "Gather", "PassLayout", "choose_attention"]
