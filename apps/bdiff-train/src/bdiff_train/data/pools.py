"""Frames that the autoencoder is trained on: rendered stories, or excerpts of videos."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bdiff_train.data.stories import HELD_OUT, LATENT_FRAMES, chunk_frames, render_story
from bdiff_train.data.videos import VideoConfig, VideoSplit, read_excerpts, read_videos, settle_short


class FramePool(ABC):
    """Frames of many stories of one length, kept as bytes and made when first asked for.

    Args:
        chunks_per_story: chunks of each story.
        latent_frames: latent frames of a chunk.
    """

    def __init__(self, chunks_per_story: int, *, latent_frames: int = LATENT_FRAMES) -> None:
        self._num_chunks, self._latent_frames = chunks_per_story, latent_frames

    @property
    def chunk_frames(self) -> list[int]:
        """Frames of each chunk of a story."""
        return chunk_frames(self._num_chunks, self._latent_frames)

    @property
    def frames_per_story(self) -> int:
        """Frames of each story."""
        return sum(self.chunk_frames)

    @abstractmethod
    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """Return all frames of the story with a number; from `HELD_OUT` on, stories are not for training."""

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
    """Frames of rendered stories, of several kinds in turn.

    With k kinds, number n is a story of kind ``n % k`` and of seed ``n // k``. From `HELD_OUT` on, both are counted
    from there. So each kind has the same seeds, and any n * k numbers in a row hold n stories of each kind.

    Args:
        chunks_per_story: chunks of each story.
        richness: how much there is to see in the stories, see ``storyworld.render``.
        takes: the kinds, of ``storyworld.TAKES``.
        latent_frames: latent frames of a chunk.
    """

    def __init__(
        self,
        chunks_per_story: int,
        *,
        richness: int = 1,
        takes: Sequence[str] = ("story",),
        latent_frames: int = LATENT_FRAMES,
    ) -> None:
        super().__init__(chunks_per_story, latent_frames=latent_frames)
        self._richness, self._takes = richness, tuple(takes)
        self._frames: dict[int, Tensor] = {}

    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """Return all frames of the story with this number."""
        if seed not in self._frames:
            first = HELD_OUT if seed >= HELD_OUT else 0
            turn, kind = divmod(seed - first, len(self._takes))
            rendered = render_story(
                first + turn,
                self._num_chunks,
                take=self._takes[kind],
                latent_frames=self._latent_frames,
                richness=self._richness,
            )
            self._frames[seed] = rendered.frames.add(1).mul_(127.5).round_().to(torch.uint8)
        return self._frames[seed]


class VideoPool(FramePool):
    """Frames of excerpts of videos.

    Numbers from `HELD_OUT` on are excerpts of held-out videos. Numbers past the last excerpt start again at the first.

    Args:
        config: the videos, and how they are cut.
        chunks_per_excerpt: chunks of each excerpt.
    """

    def __init__(self, config: VideoConfig, chunks_per_excerpt: int) -> None:
        super().__init__(chunks_per_excerpt, latent_frames=config.latent_frames)
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
