"""What is measured on one video."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storyworld
from bdiff.files import whole_file
from bdiff_bench.harness.jobs import plain_figure
from bdiff_bench.takes.config import TRUTH, Job, TakesBenchConfig
from bdiff_train.transformer import FIRST_STORY, StorySampler
from vde_metrics import Background, Clarity, GivenMasks, Metric, Motion, vde

DRIFTS = ("clarity", "motion", "background")
"""Metrics whose drift is measured, in the chunks of the video."""


def score_video(config: TakesBenchConfig, job: Job, sampler: StorySampler) -> dict[str, Any]:
    """Sample one video, or take the true one, and measure it; the first of its kind leaves a picture."""
    story = sampler.story(job.story, config.num_chunks, take=job.take)
    if job.policy == TRUTH:
        frames = sampler.reconstruct(story)
    else:
        policy = config.sampling.memory(job.policy)
        frames = sampler.sample(story, policy=policy, seed=config.seed + job.story).frames
    if job.story == FIRST_STORY:
        _save_strip(config, job, frames, story)
    evaluation = storyworld.evaluate(frames, story)
    scores, true = chunk_scores(frames, story), chunk_scores(story.frames, story)
    figures = {
        "visible": evaluation.visible_share,
        "direction": evaluation.direction_share,
        "place": evaluation.place_share,
        "sharpness": _after_first(scores["clarity"]) / _after_first(true["clarity"]),
    }
    drifts = {f"{name}_drift": drift(scores[name]) for name in DRIFTS}
    return asdict(job) | {name: plain_figure(value) for name, value in (figures | drifts).items()}


def drift(scores: Sequence[float]) -> float:
    """The VDE of chunk scores with linear weights, divided by the weights: a mean relative change; nan if undefined."""
    return vde(scores, "linear", normalize=True) if scores[0] > 0 else math.nan


def chunk_scores(frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> Mapping[str, list[float]]:
    """Score of each chunk by metric; the protagonist is where the truth says, and the camera's motion is taken out."""
    scores: dict[str, list[float]] = {name: [] for name in DRIFTS}
    lengths = list(story.chunk_frames)
    for chunk, mask in zip(_pixels(frames).split(lengths), story.truth.subject.split(lengths), strict=True):
        metrics: dict[str, Metric] = {
            "clarity": Clarity(),
            "motion": Motion(),
            "background": Background(subject=GivenMasks(mask), compensate_camera=True),
        }
        for name, metric in metrics.items():
            scores[name].append(metric.score(chunk.contiguous()))
    return scores


def _after_first(values: Sequence[float]) -> float:
    """Mean over the chunks after the first one, which is given."""
    return statistics.mean(values[1:])


def _pixels(frames: Float[Tensor, "3 t h w"]) -> UInt8[Tensor, "t h w 3"]:
    return frames.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)


def _save_strip(config: TakesBenchConfig, job: Job, frames: Tensor, story: storyworld.StoryVideo) -> None:
    """Write the middle frame of every chunk, side by side."""
    from PIL import Image

    ends = torch.tensor(story.chunk_frames).cumsum(0)
    middles = ends - torch.tensor(story.chunk_frames) // 2
    file = config.strip(job.take, job.policy)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial:
        strip = np.concatenate(list(_pixels(frames[:, middles]).numpy()), axis=1)
        Image.fromarray(strip).save(partial, format="png")
