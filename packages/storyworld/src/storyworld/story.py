"""Rendering a video: frames, captions and the truth about both."""

from typing import Literal

import numpy as np
import torch

from storyworld.elements import TAKES
from storyworld.layers import SIZE
from storyworld.plain import draw_plain
from storyworld.plan import plan_story
from storyworld.shaded import draw_shaded
from storyworld.truth import StoryVideo, Truth

FPS = 8
"""Frames per second of every story."""

_FEWEST_FRAMES = 4  # of a chunk
_SMALLEST, _LARGEST = 32, 1024  # pictures in pixels
_LEAST_AREA = 40  # square units; a protagonist that covers fewer does not count as visible


def render(
    seed: int,
    num_chunks: int,
    *,
    take: Literal["story", "place", "walk"] = "story",
    first_chunk_frames: int = 17,
    chunk_frames: int = 20,
    richness: int | None = None,
    size: int = SIZE,
) -> StoryVideo:
    """Render the video of a seed: a story with cuts between places, or a take without cuts.

    In a story a protagonist travels between a few places and comes back to them. A take of one ``place`` stays there:
    the protagonist acts, others pass by, and the light changes slowly. In a ``walk`` the camera follows the protagonist
    through a wide place, away and back, so what has left the picture comes into view again.

    The colours, the horizon and the landmark of a place are drawn at random for each video, and so are the colours of
    the protagonist. They are not in the captions: a model must remember the first visit to a place to draw the second.

    The same arguments give the same video. A shorter video is the beginning of the longer one. The size changes the
    drawing only: plan, captions and truth of a seed are the same at every size.

    Args:
        seed: Any non-negative integer.
        num_chunks: Number of chunks, at least 1.
        take: Kind of the video, one of ``TAKES``.
        first_chunk_frames: Frames of the first chunk, at least 4. A causal video autoencoder that shortens time by 4
            needs 4n - 3 frames for n latent frames.
        chunk_frames: Frames of every later chunk, at least 4.
        richness: 0 draws flat colours. 1 adds gradients and landmarks. 2 adds light and shade, daylight that changes, a
            camera that pans, a pattern on the protagonist, and companions on some stays. None: 1 for a story, and 2 for
            a take, which has no other richness.
        size: Height and width of the picture in pixels, 32 to 1024.

    Raises:
        ValueError: If an argument is out of range.
    """
    richness = _check(first_chunk_frames, chunk_frames, take, richness, size)
    plan = plan_story(seed, num_chunks, companions=richness == 2, take=take)
    lengths = [first_chunk_frames] + [chunk_frames] * (num_chunks - 1)
    if richness == 2:
        frames, drawn = draw_shaded(seed, plan, lengths, fps=FPS, size=size)
    else:
        frames, drawn = draw_plain(seed, plan, lengths, richness=richness, size=size)
    return StoryVideo(
        frames=frames,
        captions=tuple(chunk.caption for chunk in plan.chunks),
        chunk_frames=tuple(lengths),
        fps=FPS,
        truth=Truth(
            species=plan.species,
            take=plan.take,
            places=plan.places,
            setting=plan.setting,
            width=plan.width,
            place=torch.tensor([chunk.place for chunk in plan.chunks]),
            direction=torch.tensor([chunk.direction for chunk in plan.chunks]),
            arrives=torch.tensor([chunk.arrives for chunk in plan.chunks]),
            actions=tuple(chunk.action for chunk in plan.chunks),
            chunk_of_frame=torch.from_numpy(np.repeat(np.arange(num_chunks), lengths)),
            visible=drawn["subject"].sum((1, 2)) >= _LEAST_AREA * (size / SIZE) ** 2,
            companion=tuple(chunk.companion for chunk in plan.chunks),
            inhabitants=plan.inhabitants,
            **drawn,
        ),
    )


def _check(first_chunk_frames: int, chunk_frames: int, take: str, richness: int | None, size: int) -> int:
    """Refuse what no video has; returns the richness."""
    for name, frames in (("first_chunk_frames", first_chunk_frames), ("chunk_frames", chunk_frames)):
        if frames < _FEWEST_FRAMES:
            raise ValueError(f"{name} is {frames}; a chunk needs at least {_FEWEST_FRAMES} frames")
    if take not in TAKES:
        raise ValueError(f"take is {take!r}; expected one of {', '.join(TAKES)}")
    if richness not in (None, 0, 1, 2):
        raise ValueError(f"richness is {richness}; expected 0 (flat colours), 1 (landmarks) or 2 (light and camera)")
    if not _SMALLEST <= size <= _LARGEST:
        raise ValueError(f"size is {size}; expected {_SMALLEST} to {_LARGEST} pixels")
    if take == "story":
        return 1 if richness is None else richness
    if richness not in (None, 2):
        raise ValueError(f"richness is {richness}; a {take} is drawn at richness 2 only: leave richness out, or say 2")
    return 2
