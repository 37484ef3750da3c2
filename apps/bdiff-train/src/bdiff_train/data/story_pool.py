"""Frames of rendered stories, for the autoencoder."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storyworld

HELD_OUT = 1_000_000
"""Stories with seeds from here on are never trained on."""

FIRST_CHUNK, CHUNK = 17, 20
"""Frames of the first chunk, and of every later one."""


class StoryPool:
    """Frames of stories as bytes, rendered when first asked for.

    Args:
        chunks_per_story: chunks of every story.
        richness: of the stories.
    """

    def __init__(self, chunks_per_story: int, *, richness: int = 1) -> None:
        self._chunks, self._richness = chunks_per_story, richness
        self._frames: dict[int, Tensor] = {}

    @property
    def frames_per_story(self) -> int:
        """Frames of every story."""
        return FIRST_CHUNK + CHUNK * (self._chunks - 1)

    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """All frames of a story."""
        if seed not in self._frames:
            frames = storyworld.render(seed, self._chunks, richness=self._richness).frames
            self._frames[seed] = frames.add(1).mul_(127.5).round_().to(torch.uint8)
        return self._frames[seed]

    def clips(self, seeds: Sequence[int], starts: Sequence[int], *, length: int) -> Float[Tensor, "b 3 t h w"]:
        """Clips of some stories, in [-1, 1]."""
        cut = [self.story(seed)[:, start : start + length] for seed, start in zip(seeds, starts, strict=True)]
        return torch.stack(cut).float().div_(127.5).sub_(1)
