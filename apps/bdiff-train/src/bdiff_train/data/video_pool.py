"""Frames of one's own videos, for the autoencoder."""

from jaxtyping import UInt8
from torch import Tensor

from bdiff_train.data.story_pool import HELD_OUT, StoryPool
from bdiff_train.data.videos import VideoConfig, VideoSplit, read_takes, read_videos, settle_short


class VideoPool(StoryPool):
    """Takes of videos in the place of rendered stories, decoded when first asked for.

    Numbers from `HELD_OUT` on are takes of held-out videos; beyond the last take they begin anew.

    Args:
        config: the videos, and how they are cut.
        chunks_per_take: chunks of every take.
    """

    def __init__(self, config: VideoConfig, chunks_per_take: int) -> None:
        super().__init__(chunks_per_take)
        if sum(config.chunk_frames(chunks_per_take)) != self.frames_per_story:
            raise ValueError(f"latent_frames is {config.latent_frames}; the autoencoder is trained on chunks of 5")
        self._config, self._split = config, read_videos(config.source)
        self._takes: dict[bool, list[Tensor]] = {}

    def story(self, seed: int) -> UInt8[Tensor, "3 t h w"]:
        """All frames of a take."""
        held_out = seed >= HELD_OUT
        if held_out not in self._takes:
            self._takes[held_out] = self._read(self._split, held_out)
        takes = self._takes[held_out]
        return takes[(seed - HELD_OUT if held_out else seed) % len(takes)]

    def _read(self, split: VideoSplit, held_out: bool) -> list[Tensor]:
        entries = split.held_out if held_out else split.train
        short: list[str] = []
        found = [
            take.pixels
            for entry in entries
            for take in read_takes(split.root, entry, self._config, num_chunks=self._chunks, on_short=short.append)
        ]
        settle_short(short, entries)
        return found
