"""How far a video drifts by the metrics of `vde_metrics`, chunk by chunk."""

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

from jaxtyping import Float, UInt8
from torch import Tensor

from bdiff_bench.harness.jobs import plain_figure
from bdiff_bench.memory.colours import found_subject
from storyworld import StoryVideo
from vde_metrics import Background, Clarity, GivenMasks, Metric, Motion, Subject, measure

DRIFTS = ("clarity", "motion", "background", "background_camera", "subject")
"""Metrics by name. All work without a download; ``background_camera`` subtracts the motion of the camera."""

_SUBJECT_EVERY = 4  # frames: the encoder of the subject takes most of the time


class SteadyBackground(Background):
    """A background under another name, to stand beside the one with the camera's motion."""

    name: ClassVar[str] = "background_camera"


def drift_errors(
    pixels: UInt8[Tensor, "t h w 3"], frames: Float[Tensor, "3 t h w"], story: StoryVideo
) -> dict[str, float | None]:
    """The normalised Video Drift Error of a video by metric, with linear weights and one score for each chunk.

    The protagonist is looked for with its true silhouette, because a model draws it elsewhere than the story. That
    place is left out of the background, and is the crop of the subject.

    Args:
        pixels: The video as bytes.
        frames: The video in [-1, 1].
        story: The story that it should show.

    Returns:
        For each of `DRIFTS` the error; None where it is infinite, because the first chunk scores 0.
    """
    truth = story.truth
    masks = found_subject(frames, story.frames, truth.subject & truth.visible[:, None, None])
    subject = GivenMasks(masks)
    ends = [0, *accumulate(story.chunk_frames)]
    metrics: list[Metric] = [
        Clarity(),
        Motion(),
        Background(subject=subject),
        SteadyBackground(subject=subject, compensate_camera=True),
    ]
    thin = slice(None, None, _SUBJECT_EVERY)
    return _errors(pixels, metrics, ends) | _errors(
        pixels[thin], [Subject(crops=GivenMasks(masks[thin]))], [-(-end // _SUBJECT_EVERY) for end in ends]
    )


def _errors(
    pixels: UInt8[Tensor, "t h w 3"], metrics: Sequence[Metric], ends: Sequence[int]
) -> dict[str, float | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an infinite error is None in the figures
        report = measure(pixels.contiguous(), metrics=metrics, chunk_frames=ends)
    return {name: plain_figure(error) for name, error in report.vde_normalized.items()}
