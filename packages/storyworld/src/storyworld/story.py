"""Rendering a story: frames, captions and the truth about both."""

import numpy as np
import torch

from storyworld.plain import draw_plain
from storyworld.plan import plan_story
from storyworld.shaded import draw_shaded
from storyworld.truth import StoryVideo, Truth

FPS = 8
"""Frames per second of every story."""

_FEWEST_FRAMES = 4  # of a chunk
_FEWEST_PIXELS = 40  # a protagonist that covers fewer does not count as visible


def render(
    seed: int, num_chunks: int, *, first_chunk_frames: int = 17, chunk_frames: int = 20, richness: int = 1
) -> StoryVideo:
    """Render the story of a seed: a protagonist travels between a few places and comes back to them.

    The colours, the horizon and the landmark of a place are drawn at random for each video, and so are the colours of
    the protagonist. They are not in the captions: a model must remember the first visit to a place to draw the second.

    The same arguments give the same video. A shorter story is the beginning of the longer one.

    Args:
        seed: Any non-negative integer.
        num_chunks: Number of chunks, at least 1.
        first_chunk_frames: Frames of the first chunk, at least 4. A causal video autoencoder that shortens time by 4
            needs 4n - 3 frames for n latent frames.
        chunk_frames: Frames of every later chunk, at least 4.
        richness: 0 draws flat colours. 1 adds gradients and landmarks. 2 adds light and shade, daylight that changes, a
            camera that pans, a pattern on the protagonist, and companions on some stays.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(first_chunk_frames, chunk_frames, richness)
    plan = plan_story(seed, num_chunks, companions=richness == 2)
    lengths = [first_chunk_frames] + [chunk_frames] * (num_chunks - 1)
    if richness == 2:
        frames, drawn = draw_shaded(seed, plan, lengths, fps=FPS)
    else:
        frames, drawn = draw_plain(seed, plan, lengths, richness=richness)
    return StoryVideo(
        frames=frames,
        captions=tuple(chunk.caption for chunk in plan.chunks),
        chunk_frames=tuple(lengths),
        fps=FPS,
        truth=Truth(
            species=plan.species,
            places=plan.places,
            place=torch.tensor([chunk.place for chunk in plan.chunks]),
            direction=torch.tensor([chunk.direction for chunk in plan.chunks]),
            arrives=torch.tensor([chunk.arrives for chunk in plan.chunks]),
            actions=tuple(chunk.action for chunk in plan.chunks),
            chunk_of_frame=torch.from_numpy(np.repeat(np.arange(num_chunks), lengths)),
            visible=drawn["subject"].sum((1, 2)) >= _FEWEST_PIXELS,
            companion=tuple(chunk.companion for chunk in plan.chunks),
            **drawn,
        ),
    )


def _check(first_chunk_frames: int, chunk_frames: int, richness: int) -> None:
    for name, frames in (("first_chunk_frames", first_chunk_frames), ("chunk_frames", chunk_frames)):
        if frames < _FEWEST_FRAMES:
            raise ValueError(f"{name} is {frames}; a chunk needs at least {_FEWEST_FRAMES} frames")
    if richness not in (0, 1, 2):
        raise ValueError(f"richness is {richness}; expected 0 (flat colours), 1 (landmarks) or 2 (light and camera)")
