"""Rendering a story: pictures, captions and the truth about both."""

import numpy as np
import torch

from storyworld.shaded import draw_shaded
from storyworld.plain import draw_plain
from storyworld.plan import plan_story
from storyworld.truth import StoryVideo, Truth

FPS = 8
"""Frames per second of every story."""

_LEAST_SUBJECT = 40  # pixels: fewer do not count as seen


def render(
    seed: int, num_chunks: int, *, first_chunk_frames: int = 17, chunk_frames: int = 20, richness: int = 1
) -> StoryVideo:
    """Render the story of ``seed``: a protagonist travels between a few places and comes back to them.

    Colours, horizon and landmarks of a place and the look of the protagonist are drawn per video and are not in the
    captions: only who remembers the first visit can draw the second. A pure function of its arguments; the first
    chunks of a longer story are the shorter story.

    Args:
        seed: Any non-negative integer.
        num_chunks: Number of chunks, at least 1.
        first_chunk_frames: Frames of the first chunk (a causal video autoencoder wants 4n - 3).
        chunk_frames: Frames of every later chunk.
        richness: 0 flat colours; 1 gradients and landmarks; 2 also light and shade, day light that changes, a camera
            that pans, a pattern on the protagonist, and companions on some stays.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(seed, num_chunks, first_chunk_frames, chunk_frames, richness)
    plan = plan_story(seed, num_chunks, companions=richness == 2)
    lengths = [first_chunk_frames] + [chunk_frames] * (num_chunks - 1)
    if richness == 2:
        frames, seen = draw_shaded(seed, plan, lengths, fps=FPS)
    else:
        frames, seen = draw_plain(seed, plan, lengths, richness=richness)
    return StoryVideo(
        frames=frames,
        captions=tuple(beat.caption for beat in plan.chunks),
        chunk_frames=tuple(lengths),
        fps=FPS,
        truth=Truth(
            species=plan.species,
            places=plan.places,
            place=torch.tensor([beat.place for beat in plan.chunks]),
            direction=torch.tensor([beat.direction for beat in plan.chunks]),
            arrives=torch.tensor([beat.arrives for beat in plan.chunks]),
            actions=tuple(beat.action for beat in plan.chunks),
            chunk_of_frame=torch.from_numpy(np.repeat(np.arange(num_chunks), lengths)),
            visible=seen["subject"].sum((1, 2)) >= _LEAST_SUBJECT,
            companion=tuple(beat.companion for beat in plan.chunks),
            **seen,
        ),
    )


def _check(seed: int, num_chunks: int, first_chunk_frames: int, chunk_frames: int, richness: int) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a non-negative integer")
    if num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; a story has at least 1 chunk")
    if min(first_chunk_frames, chunk_frames) < 4:
        raise ValueError(f"chunks of {first_chunk_frames} and {chunk_frames} frames; a chunk needs at least 4 frames")
    if richness not in (0, 1, 2):
        raise ValueError(f"richness is {richness}; expected 0 (flat colours), 1 (landmarks) or 2 (light and camera)")
