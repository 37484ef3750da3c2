"""What is measured on one story sampled by one model: drift, recall, and whether the video follows its captions."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_bench.harness import plain_figure
from bdiff_bench.memory import at_places, given_chunks, measure, token_shares
from bdiff_train.transformer import SampledStory, StorySampler
from storyworld import StoryVideo, evaluate
from studies.ablation.configurations import Configuration
from vde_metrics import Background, Clarity, DriftReport, GivenMasks, Motion, Subject
from vde_metrics import measure as measure_drift

DRIFTS = ("subject", "background", "motion", "clarity")
"""Metrics of Video Drift Error that are measured; the paper's fifth, aesthetic, needs weights that do not ship."""

SUBJECT_EVERY = 4
"""The subject is embedded in one of so many frames, except in the first chunk, which all are compared with.

This is 5 of a chunk's 20 frames. With all of them, most of the time of measuring would be spent here.
"""

_SHOWN = ("tokens", "tokens_by_chunk", "chunks_by_chunk", "kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryJob:
    """One story to sample twice, freely and with first visits given, and to measure."""

    label: str
    """Label of the configuration, or of the true videos."""
    seed: int
    story: int
    weights: str | None = None
    """Digest of the transformer, so that videos of another training do not count; None: no transformer."""


def sampled_line(
    sampler: StorySampler, story: StoryVideo, job: StoryJob, *, configuration: Configuration, window: int
) -> dict[str, Any]:
    """Sample a story freely and with first visits given, and measure both videos.

    Args:
        sampler: The model.
        story: The story of the job.
        job: Its seed makes the noise, which is the same for all configurations.
        configuration: How it is sampled.
        window: Chunks that a rolling window holds.

    Returns:
        What `video_line` returns. And what the free video was shown of the past: ``tokens``, those that a layer shows
        to a chunk once the video is longer than the window; ``tokens_by_chunk``, mean over layers; ``chunks_by_chunk``,
        the numbers of the chunks shown; ``kept``, for each layer the share of a shown chunk's tokens. And ``seconds``
        of each video and of measuring both.
    """
    begun = time.perf_counter()
    seed = (job.seed << 32) + job.story
    free = _sample(sampler, story, configuration, window, given=(0,), seed=seed)
    free_done = time.perf_counter()
    given = given_chunks("given", story.truth.place.tolist())
    complete = len(given) == len(story.chunk_frames)  # without returns nothing would be generated
    with_visits = None
    if not complete:
        with_visits = _sample(sampler, story, configuration, window, given=given, seed=seed).frames
    done = time.perf_counter()
    line = video_line(free.frames, with_visits, story, job) | _shown(sampler, story, free, window)
    seconds = {"free": free_done - begun, "given": done - free_done, "measuring": time.perf_counter() - done}
    return line | {"seconds": seconds}


def _sample(
    sampler: StorySampler,
    story: StoryVideo,
    configuration: Configuration,
    window: int,
    *,
    given: tuple[int, ...],
    seed: int,
) -> SampledStory:
    match configuration.sampler:
        case "memory":
            return sampler.sample(story, policy=configuration.make_policy(), given=given, seed=seed)
        case "overlap":
            return sampler.sample_without_memory(story, num_past=window, given=given, seed=seed)


def true_line(sampler: StorySampler, story: StoryVideo, job: StoryJob) -> dict[str, Any]:
    """The same figures for the true video after the autoencoder: the least errors that a model can reach.

    ``forgetful`` has the figures of the same video with wrong places on all returns. It shows how much each measure
    changes by forgetting alone.
    """
    begun = time.perf_counter()
    frames, elsewhere = sampler.reconstruct(story), sampler.reconstruct(forgetful(story))
    done = time.perf_counter()
    line = video_line(frames, frames, story, job) | dict.fromkeys(_SHOWN)
    line |= {"forgetful": video_line(elsewhere, elsewhere, story, job)}
    return line | {"seconds": {"free": done - begun, "given": 0.0, "measuring": time.perf_counter() - done}}


def forgetful(story: StoryVideo) -> StoryVideo:
    """The story with a wrong place on every return; all else is as it was.

    This is a video that has forgotten every place and has no other error. It lacks the shadows of the actors.
    """
    truth, places = story.truth, story.truth.place.tolist()
    first = set(given_chunks("given", places))
    back = torch.tensor([chunk not in first for chunk in range(len(places))])
    place = torch.where(back, (truth.place + 1) % len(truth.places), truth.place)
    background = at_places(truth, place).background_at(range(len(truth.chunk_of_frame))).transpose(0, 1)
    actors = (truth.subject & truth.visible[:, None, None]) | truth.companion_mask
    changed = back[truth.chunk_of_frame][:, None, None] & ~actors
    return replace(story, frames=torch.where(changed, background, story.frames))


def video_line(
    free: Float[Tensor, "3 t h w"], given: Float[Tensor, "3 t h w"] | None, story: StoryVideo, job: StoryJob
) -> dict[str, Any]:
    """Figures of two videos of a story.

    Args:
        free: The video whose first chunk was given.
        given: The video whose first visits were given; None: the story has no other visits.
        story: The story with its truth.
        job: What the videos were made for.

    Returns:
        The job; ``places``, the place of each chunk, and ``new_place``, 1 in first visits and 0 in returns; ``drift``,
        by metric the published and the normalised error, the score of each chunk and its `changes`; ``recall``, the
        colour error of every chunk of a return with its gap (first visits given); ``palette``, the distance to the
        first visit in the free video itself; ``captions``, how much of the video is as prompted, overall and by chunk.
        What could not be measured is None. So is the error of a video whose first chunk scores 0, which is infinite.

    Raises:
        ValueError: If a video is not of the story's size, or not finite.
    """
    report, places = _drift(free, story), story.truth.place.tolist()
    new = set(given_chunks("given", places))
    palettes = measure(free, story, "free")
    recalls = [] if given is None else measure(given, story, "given")
    return {
        "cell": job.label,
        "seed": job.seed,
        "story": job.story,
        "weights": job.weights,
        "places": places,
        "new_place": [int(chunk in new) for chunk in range(len(places))],
        "drift": {
            m.name: {
                "vde": plain_figure(m.vde),
                "normalized": plain_figure(m.vde_normalized),
                "scores": [plain_figure(score) for score in m.scores],
                "changes": [plain_figure(change) for change in changes(m.scores)],
            }
            for m in report.metrics
        },
        "frozen": report.is_frozen,
        "recall": [{"chunk": r["chunk"], "gap": r["gap"], "colour": plain_figure(r["colour"])} for r in recalls],
        "palette": [{"chunk": r["chunk"], "gap": r["gap"], "palette": plain_figure(r["palette"])} for r in palettes],
        "captions": _captions(free, story),
    }


def changes(scores: Sequence[float | None]) -> list[float | None]:
    """The change of each score against the first, as a share of it; None without a score, or if the first is 0."""
    first = next((score for score in scores if score is not None and math.isfinite(score)), None)
    return [None if score is None or not first else abs(score - first) / abs(first) for score in scores]


def _drift(frames: Tensor, story: StoryVideo) -> DriftReport:
    """VDE with the true masks of subject and companion."""
    truth = story.truth
    frame = torch.arange(len(truth.visible))
    embedded = truth.visible & ((truth.chunk_of_frame == 0) | (frame % SUBJECT_EVERY == 0))
    subject = GivenMasks(truth.subject & embedded[:, None, None])
    actors = GivenMasks(truth.subject | truth.companion_mask)
    with warnings.catch_warnings():
        # the figures count such videos
        warnings.filterwarnings("ignore", ".* so their relative change is infinite", RuntimeWarning)
        return measure_drift(
            frames,
            metrics=(Subject(crops=subject), Background(subject=actors), Motion(), Clarity()),
            chunk_frames=[0, *torch.tensor(story.chunk_frames).cumsum(0).tolist()],
        )


def _captions(frames: Tensor, story: StoryVideo) -> dict[str, Any]:
    evaluation, chunk_of_frame = evaluate(frames, story), story.truth.chunk_of_frame
    chunks = range(len(story.chunk_frames))
    wanted = evaluation.should_be_visible
    seen = [evaluation.visible[wanted & (chunk_of_frame == c)].float().mean().item() for c in chunks]
    return {
        "visible": plain_figure(evaluation.visible_share),
        "direction": plain_figure(evaluation.direction_share),
        "place": plain_figure(evaluation.place_share),
        "visible_by_chunk": [plain_figure(share) for share in seen],
        "direction_by_chunk": (evaluation.direction == evaluation.true_direction).int().tolist(),
    }


def _shown(sampler: StorySampler, story: StoryVideo, video: SampledStory, window: int) -> dict[str, Any]:
    """The figures named in `_SHOWN`, see `sampled_line`."""
    stride = sampler.vae.config.spatial_stride
    height, width = (side // stride for side in story.frames.shape[2:])
    tokens = sampler.model.config.num_tokens(sampler.sampling.latent_frames, height, width)
    shares = token_shares(video.trace, tokens_per_chunk=tokens, window=window)
    by_chunk = [math.fsum(map(sum, read.spans)) / max(1, len(read.spans)) for read in video.trace]
    figures = (shares["shown"], by_chunk, [list(read.chunks) for read in video.trace], shares["kept"])
    return dict(zip(_SHOWN, figures, strict=True))
