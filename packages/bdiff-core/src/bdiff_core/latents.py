"""The latents of a chunk before it is finished: noise, or latents given instead of generated."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

Prefix = Mapping[int, Tensor]
"""Latents `[1 c t h w]` given instead of generated, by the index of their chunk."""


def as_latents(frames: Float[Tensor, "frames c h w"], *, like: Float[Tensor, "..."]) -> Float[Tensor, "1 c frames h w"]:
    """Noise of a chunk as one video of latents, with the dtype and on the device of another tensor."""
    return frames.to(like).unsqueeze(0).transpose(1, 2)


def check_prefix(prefix: object) -> None:
    """Check that a prefix has the form that samplers take.

    Raises:
        TypeError: If it is no mapping.
    """
    if not isinstance(prefix, Mapping):
        raise TypeError(
            f"prefix is a {type(prefix).__name__}; expected a mapping from the index of a chunk to its latents, such "
            "as dict(enumerate(latents.split(frames_per_chunk, dim=2)))"
        )


def given_latents(prefix: Prefix, index: int, *, like: Float[Tensor, "1 c t h w"]) -> Float[Tensor, "1 c t h w"]:
    """The latents that a prefix gives for a chunk, with the dtype and on the device of its noise.

    Raises:
        ValueError: If they have another shape than the noise.
    """
    given = prefix[index]
    if given.shape != like.shape:
        raise ValueError(
            f"prefix holds {tuple(given.shape)} for chunk {index}; expected whole chunks of {tuple(like.shape)}"
        )
    return given.to(like)
