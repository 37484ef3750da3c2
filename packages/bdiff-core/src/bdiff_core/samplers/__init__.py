"""Samplers that denoise in another order than chunk after chunk: the native modes of other families of weights.

`generate_whole` is that of Wan 2.1, `generate_overlap` that of SkyReels-V2's diffusion forcing. Both yield the chunks
that `bdiff_core.generate` yields, which is itself the native mode of Self-Forcing, CausVid, LongLive and our own.
"""

from bdiff_core.samplers.overlap import generate_overlap, staggered
from bdiff_core.samplers.whole import generate_whole

__all__ = ["generate_overlap", "generate_whole", "staggered"]
