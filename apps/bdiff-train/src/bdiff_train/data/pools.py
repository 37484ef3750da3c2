"""Frames that the autoencoder is trained on: rendered stories, or excerpts of videos."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storyworld
from bdiff_train.data.stories import HELD_OUT
from bdiff_train.data.videos import VideoConfig, VideoSplit, read_excerpts, read_videos, settle_short

FIRST_CHUNK, CHUNK = 17, 20
"""Frames of the first chunk, and of each later one."""


class FramePool(ABC):
    """Frames of many stories of one length, kept as bytes and made when first asked for.

    Args:
        chunks_per_story: chunks of each story.
    """

    def __init__(self, chunks_per_story: int) -> None:
        self._num_chunks = chunks_per_story

    @property
    def frames_per_story(self) -> int:
        """Frames of each story."""
        return FIRST_CHUNK + CHUNK * (self._num_chunks - 1)

    @abstractmethod
    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """Return all frames of a story; from `HELD_OUT` on, stories are not for training."""

    def clips(self, seeds: Sequence[int], starts: Sequence[int], *, length: int) -> Float[Tensor, "b 3 t h w"]:
        """Cut clips from stories, in [-1, 1].

        Args:
            seeds: The story of each clip.
            starts: The first frame of each clip.
            length: Frames of every clip.
        """
        cut = [self.story(seed)[:, start : start + length] for seed, start in zip(seeds, starts, strict=True)]
        return torch.stack(cut).float().div_(127.5).sub_(1)


class StoryPool(FramePool):
    """Frames of rendered stories.

    Args:
        chunks_per_story: chunks of each story.
        richness: how much there is to see in the stories, see ``storyworld.render``.
    """

    def __init__(self, chunks_per_story: int, *, richness: int = 1) -> None:
        super().__init__(chunks_per_story)
        self._richness = richness
        self._frames: dict[int, Tensor] = {}

    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """Return all frames of the story with this seed."""
        if seed not in self._frames:
            frames = storyworld.render(seed, self._num_chunks, richness=self._richness).frames
            self._frames[seed] = frames.add(1).mul_(127.5).round_().to(torch.uint8)
        return self._frames[seed]


class VideoPool(FramePool):
    """Frames of excerpts of videos.

    Numbers from `HELD_OUT` on are excerpts of held-out videos. Numbers past the last excerpt start again at the first.

    Args:
        config: the videos, and how they are cut.
        chunks_per_excerpt: chunks of each excerpt.
    """

    def __init__(self, config: VideoConfig, chunks_per_excerpt: int) -> None:
        super().__init__(chunks_per_excerpt)
        if sum(config.chunk_frames(chunks_per_excerpt)) != self.frames_per_story:
            raise ValueError(f"latent_frames is {config.latent_frames}; the autoencoder is trained on chunks of 5")
        self._config, self._split = config, read_videos(config.source)
        self._excerpts: dict[bool, list[Tensor]] = {}

    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """Return all frames of the excerpt with this number."""
        held_out = seed >= HELD_OUT
        if held_out not in self._excerpts:
            self._excerpts[held_out] = self._read(self._split, held_out)
        excerpts = self._excerpts[held_out]
        return excerpts[(seed - HELD_OUT if held_out else seed) % len(excerpts)]

    def _read(self, split: VideoSplit, held_out: bool) -> list[Tensor]:
        entries = split.held_out if held_out else split.train
        short: list[str] = []
        found = [
            excerpt.pixels
            for entry in entries
            for excerpt in read_excerpts(
                split.root, entry, self._config, num_chunks=self._num_chunks, on_short=short.append
            )
        ]
        settle_short(short, entries)
        return found
