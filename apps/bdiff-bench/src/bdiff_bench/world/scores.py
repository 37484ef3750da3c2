"""What is measured on one video."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storyworld
from bdiff_bench.harness.jobs import plain_figure
from bdiff_bench.memory.figures import GROWN
from bdiff_bench.memory.measures import measure
from bdiff_bench.world.config import STORY, WorldJob
from bdiff_bench.world.drift import drift_errors
from bdiff_core import TextEncoder
from bdiff_train.data import past_similarity
from bdiff_train.transformer import StorySampler
from kvbank import Policy
from storyworld import plan_story
from vde_metrics import Clarity


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryScore:
    """The figures of one video."""

    story: int
    """Its seed."""
    take: str
    """Its kind, one of ``storyworld.TAKES``."""
    policy: str
    """The memory that it was sampled with."""
    visible: float
    """Share of the frames that should show the protagonist in which it is found."""
    direction: float
    """Share of the chunks whose direction of motion is as prompted."""
    place: float
    """Share of the returns to a place, or to a spot of a walk, that show it again; nan without returns."""
    clarity_ratio: float
    """Clarity of the last four chunks over that of chunks 1 to 4."""
    true_clarity_ratio: float
    """The same ratio of the true video: places differ in sharpness."""
    clarity_to_truth: float
    """Clarity of the generated chunks over that of the same chunks of the true video."""
    returns: tuple[Mapping[str, float | None], ...]
    """For each chunk of a later visit: its number, the distance of its palette to that of the first visit in the same
    video, and the error of the protagonist's colours. In [0, 1]; None where there is nothing to measure. Stories have
    such chunks, other kinds have none."""
    true_returns: tuple[Mapping[str, float | None], ...]
    """The same for the true video after the autoencoder, because chunks differ in what they show."""
    true_visible: float
    """As `visible`, of the true video after the autoencoder."""
    true_direction: float
    """As `direction`, of that video."""
    true_place: float
    """As `place`, of that video."""
    drift: Mapping[str, float | None]
    """Normalised Video Drift Error by metric, see `drift_errors`."""
    true_drift: Mapping[str, float | None]
    """The same for the true video after the autoencoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueVideo:
    """A video as rendered, and what is measured on it after the autoencoder."""

    take: str
    """Its kind."""
    seed: int
    """Its seed."""
    story: storyworld.StoryVideo
    """As rendered."""
    clarity: tuple[float, ...]
    """Clarity of each chunk as rendered."""
    returns: tuple[Mapping[str, float | None], ...]
    """As `StoryScore.returns`."""
    evaluation: storyworld.Evaluation
    """By the world's truth."""
    drift: Mapping[str, float | None]
    """As `StoryScore.drift`."""

    @classmethod
    def render(cls, sampler: StorySampler, job: WorldJob, num_chunks: int) -> "TrueVideo":
        """Render the video of a job, pass it through the autoencoder, and measure it."""
        story = sampler.story(job.story, num_chunks, take=job.take)
        frames = sampler.reconstruct(story)
        return cls(
            take=job.take,
            seed=job.story,
            story=story,
            clarity=tuple(clarity_curve(story.frames, story)),
            returns=_returns(frames, story),
            evaluation=storyworld.evaluate(frames, story),
            drift=drift_errors(_pixels(frames), frames, story),
        )


def score_story(frames: Float[Tensor, "3 t h w"], true: TrueVideo, policy: str) -> StoryScore:
    """Evaluate a sampled video by the world's truth."""
    story = true.story
    evaluation = storyworld.evaluate(frames, story)
    made, clarity = clarity_curve(frames, story), true.clarity
    return StoryScore(
        story=true.seed,
        take=true.take,
        policy=policy,
        visible=evaluation.visible_share,
        direction=evaluation.direction_share,
        place=evaluation.place_share,
        clarity_ratio=statistics.mean(made[-4:]) / statistics.mean(made[1:5]),
        true_clarity_ratio=statistics.mean(clarity[-4:]) / statistics.mean(clarity[1:5]),
        clarity_to_truth=statistics.mean(made[1:]) / statistics.mean(clarity[1:]),
        returns=_returns(frames, story),
        true_returns=true.returns,
        true_visible=true.evaluation.visible_share,
        true_direction=true.evaluation.direction_share,
        true_place=true.evaluation.place_share,
        drift=drift_errors(_pixels(frames), frames, story),
        true_drift=true.drift,
    )


def clarity_curve(frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> list[float]:
    """Clarity of each chunk."""
    return [Clarity().score(chunk.contiguous()) for chunk in _pixels(frames).split(list(story.chunk_frames))]


def retrieval_share(
    encoder: TextEncoder,
    policy: Policy,
    stories: Sequence[int],
    *,
    num_chunks: int = 25,
    companions: bool = False,
    take: str = "story",
) -> dict[str, float | None]:
    """How often the memory recalls the right place, on returns to a place that no recent chunk shows.

    Places of a walk are its spots.

    Returns:
        ``returns``, the number of such returns; and ``share``, the share of them on which an older chunk in view shows
        the place, None without any.
    """
    right, returns = 0, 0
    for seed in stories:
        planned = plan_story(seed, num_chunks, companions=companions, take=take).chunks
        embedding = encoder.encode([each.caption for each in planned]).embedding
        for chunk, each in enumerate(planned):
            seen = policy.select(chunk, past_similarity(embedding[: chunk + 1]))
            older = [c for c in range(chunk) if policy.kind(chunk, c) != "recent"]
            recent = {planned[c].place for c in range(len(older), chunk)}
            if each.place in {planned[c].place for c in older} - recent:
                returns += 1
                right += any(planned[c].place == each.place for c in seen if c in older)
    return {"returns": returns, "share": right / returns if returns else None}


def _pixels(frames: Float[Tensor, "3 t h w"]) -> UInt8[Tensor, "t h w 3"]:
    return frames.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)


def _returns(frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> tuple[dict[str, float | None], ...]:
    if story.truth.take != STORY:
        return ()
    return tuple(
        {"chunk": record["chunk"]} | {name: plain_figure(record[name]) for name in GROWN}
        for record in measure(frames, story, "free")
    )
