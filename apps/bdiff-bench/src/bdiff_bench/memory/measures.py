"""What is measured in one video: a record for every chunk of a later visit to a place."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_bench.memory.colours import (
    REGIONS,
    at_places,
    palette,
    palette_distance,
    region_errors,
    region_masks,
    subject_errors,
)
from bdiff_bench.memory.visits import Return, first_visits, returns
from kvbank import RecallTrace
from storyworld import StoryVideo

Mode = Literal["given", "free"]
"""`given`: first visits are given as true latents, later ones are generated. `free`: only the first chunk is given."""

MODES: tuple[Mode, ...] = get_args(Mode)

MEASURES: dict[Mode, tuple[str, ...]] = {
    "given": ("colour", *REGIONS, "subject"),
    "free": ("palette", "elsewhere", "subject"),
}
"""Measures of each mode; arms are compared by the first one."""


def given_chunks(mode: Mode, places: Sequence[int]) -> tuple[int, ...]:
    """The chunks that are given rather than generated, where ``places`` is the place of each chunk."""
    if mode == "free":
        return (0,)
    return tuple(sorted(chunk for visit in first_visits(places).values() for chunk in visit))


def measure(
    frames: Float[Tensor, "3 t h w"],
    story: StoryVideo,
    mode: Mode,
    *,
    first: Float[Tensor, "3 t h w"] | None = None,
) -> list[dict[str, Any]]:
    """Errors of every chunk of a later visit.

    Args:
        frames: A video of the story.
        story: The story as rendered, with its truth.
        mode: ``given``: against the truth. ``free``: against the first visit in the video itself.
        first: The video whose first visits count; None: ``frames``.

    Returns:
        For each such chunk its number, place, gap and time away (see `Return`) and the `MEASURES` of the mode, in
        [0, 1]; nan where there is nothing to measure.

    Raises:
        ValueError: If the video is not of the story's size, or not finite.
    """
    if frames.shape != story.frames.shape or not frames.isfinite().all():
        raise ValueError(
            f"the video has shape {tuple(frames.shape)}, the story {tuple(story.frames.shape)}; "
            "expected the same, and finite values alone"
        )
    places = story.truth.place.tolist()
    shown = frames if first is None else first
    found = []
    for back in returns(places):
        span = _span(story, range(back.chunk, back.chunk + 1))
        errors = _given(frames, story, span) if mode == "given" else _free(frames, shown, story, back)
        subject = story.truth.subject[span] & story.truth.visible[span, None, None]
        errors["subject"] = subject_errors(frames[:, span], story.frames[:, span], subject).nanmean().item()
        found.append({"chunk": back.chunk, "place": back.place, "gap": back.gap, "away": back.away} | errors)
    return found


def measure_random_place(story: StoryVideo, mode: Mode) -> list[dict[str, Any]]:
    """Errors of videos that show a wrong place, mean over all other places of the story.

    These videos show no protagonist. In mode ``free`` the first visits are the true ones.
    """
    count, truth = len(story.truth.places), story.truth
    videos = []
    for shift in range(1, count):
        elsewhere = at_places(truth, (truth.place + shift) % count)
        video = elsewhere.background_at(range(len(truth.chunk_of_frame))).transpose(0, 1)
        videos.append(measure(video, story, mode, first=story.frames))
    means = [
        records[0] | {name: math.fsum(r[name] for r in records) / len(records) for name in MEASURES[mode]}
        for records in zip(*videos, strict=True)
    ]
    # one of these videos shows the place that it is compared with
    return [record | {"elsewhere": math.nan} for record in means] if mode == "free" else means


def token_shares(trace: Sequence[RecallTrace], *, tokens_per_chunk: int, window: int) -> dict[str, Any]:
    """How much of the past a video's chunks were shown.

    Args:
        trace: The recalls of one video.
        tokens_per_chunk: Tokens of a chunk before any is dropped.
        window: The first chunk that counts for ``shown``; the past of earlier ones is short.

    Returns:
        ``kept``: for each layer the share of a chunk's tokens that is shown, mean over the chunks shown; ``shown``:
        tokens that a layer shows to a chunk, mean over layers and chunks. None if nothing was shown.
    """
    reads = [read for read in trace if read.chunks]
    full = [read for read in reads if read.index >= window]
    if not reads:
        return {"kept": None, "shown": 0.0}
    spans = torch.cat([torch.tensor(read.spans, dtype=torch.float64) for read in reads], dim=1)
    shown = [torch.tensor(read.spans, dtype=torch.float64).sum(1).mean().item() for read in full]
    return {
        "kept": (spans.mean(1) / tokens_per_chunk).tolist(),
        "shown": math.fsum(shown) / len(shown) if shown else None,
    }


def _given(frames: Tensor, story: StoryVideo, span: slice) -> dict[str, float]:
    errors = region_errors(frames[:, span], story.frames[:, span], region_masks(story.truth, span))
    return dict(zip(REGIONS, errors.tolist(), strict=True)) | {"colour": errors.nanmean().item()}


def _free(frames: Tensor, shown: Tensor, story: StoryVideo, back: Return) -> dict[str, float]:
    """Distance to the first visit of the place, and mean distance to first visits of other places seen before."""
    here = at_places(story.truth, torch.full_like(story.truth.place, back.place))

    def colours(video: Tensor, chunks: range) -> Tensor:
        span = _span(story, chunks)
        return palette(video[:, span], region_masks(here, span))

    now = colours(frames, range(back.chunk, back.chunk + 1))
    visits = first_visits(story.truth.place.tolist())
    distance = {p: palette_distance(now, colours(shown, v)) for p, v in visits.items() if v.start < back.chunk}
    others = [d for p, d in distance.items() if p != back.place]
    return {"palette": distance[back.place], "elsewhere": math.fsum(others) / len(others)}


def _span(story: StoryVideo, chunks: range) -> slice:
    """The frames of some chunks."""
    starts = [0, *torch.tensor(story.chunk_frames).cumsum(0).tolist()]
    return slice(starts[chunks.start], starts[chunks.stop])
