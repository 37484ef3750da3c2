"""What is measured on one story."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import storyworld
from bdiff_bench.harness.jobs import plain_figure
from bdiff_bench.memory.figures import GROWN
from bdiff_bench.memory.measures import measure
from bdiff_bench.world.config import WorldBenchConfig
from bdiff_core import TextEncoder
from bdiff_train.data import past_similarity
from bdiff_train.transformer import StorySampler
from kvbank import Policy
from storyworld import plan_story
from vde_metrics import Clarity


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryScore:
    """The figures of one story."""

    story: int
    """Its seed."""
    visible: float
    """Share of the frames that should show the protagonist in which it is found."""
    direction: float
    """Share of the chunks whose direction of motion is as prompted."""
    place: float
    """Share of the returns to a place that show it again; nan without returns."""
    clarity_ratio: float
    """Clarity of the last four chunks over that of chunks 1 to 4."""
    true_clarity_ratio: float
    """The same ratio of the true video: places differ in sharpness."""
    clarity_to_truth: float
    """Clarity of the generated chunks over that of the same chunks of the true video."""
    returns: tuple[Mapping[str, float | None], ...]
    """For each chunk of a later visit: its number, the distance of its palette to that of the first visit in the same
    video, and the error of the protagonist's colours. In [0, 1]; None where there is nothing to measure."""
    true_returns: tuple[Mapping[str, float | None], ...]
    """The same for the true video after the autoencoder, because chunks differ in what they show."""


def score_story(config: WorldBenchConfig, story_seed: int, sampler: StorySampler) -> StoryScore:
    """Sample one story, and evaluate the video by the world's truth."""
    story = sampler.story(story_seed, config.num_chunks)
    frames = sampler.sample(story, policy=config.policy, seed=config.seed + story_seed).frames
    evaluation = storyworld.evaluate(frames, story)
    made, true = clarity_curve(frames, story), clarity_curve(story.frames, story)
    return StoryScore(
        story=story_seed,
        visible=evaluation.visible_share,
        direction=evaluation.direction_share,
        place=evaluation.place_share,
        clarity_ratio=statistics.mean(made[-4:]) / statistics.mean(made[1:5]),
        true_clarity_ratio=statistics.mean(true[-4:]) / statistics.mean(true[1:5]),
        clarity_to_truth=statistics.mean(made[1:]) / statistics.mean(true[1:]),
        returns=_returns(frames, story),
        true_returns=_returns(sampler.reconstruct(story), story),
    )


def clarity_curve(frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> list[float]:
    """Clarity of each chunk."""
    pixels = frames.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)
    return [Clarity().score(chunk.contiguous()) for chunk in pixels.split(list(story.chunk_frames))]


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


def _returns(frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> tuple[dict[str, float | None], ...]:
    return tuple(
        {"chunk": record["chunk"]} | {name: plain_figure(record[name]) for name in GROWN}
        for record in measure(frames, story, "free")
    )
