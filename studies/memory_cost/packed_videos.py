"""What packing costs a video: the same videos with a plain and a packed past, compared with other seeds."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bdiff import Sampling
from bdiff_bench.harness import (
    append_lines,
    check_recipe,
    keep_recipe,
    mean_of_known,
    model_recipe,
    read_lines,
    run_jobs,
)
from bdiff_bench.memory import given_chunks, measure, returns
from bdiff_bench.world import clarity_curve
from bdiff_train.transformer import FIRST_STORY, StorySampler
from storyworld import plan_story
from studies.memory_cost.exactness import FORMATS

PLAIN = "plain"
"""Name of the format that packs nothing."""
METRICS = ("colour", "clarity")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedVideosConfig:
    """Which videos are made."""

    file: Path
    """File with a line for each video; a stopped study goes on."""
    model: Path
    """Model folder."""
    num_chunks: int
    """Chunks of each video."""
    num_stories: int = 4
    """Held-out stories."""
    num_seeds: int = 3
    """Videos of each story in each format."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name; None is as not given."""
    workers: int = 2
    """Processes, each on one thread."""

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled."""
        return Sampling.of_model(self.model).changed(self.settings)

    @property
    def stories(self) -> range:
        """Seeds of the stories."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    def recipe(self) -> dict[str, Any]:
        """What a video's line depends on, beside what the line says."""
        return model_recipe(self.model, self.sampling) | {"num_chunks": self.num_chunks}


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedVideo:
    """One video to make and measure."""

    story: int
    seed: int
    form: str
    """One of `FORMATS`, or `PLAIN`."""


def measure_packed_videos(config: PackedVideosConfig) -> dict[str, Any]:
    """Colour error of returns to places, and clarity, by format and seed; and whether formats differ more than seeds.

    First visits to places are given, as in `bdiff bench memory`. The spread is that of the plain videos between
    seeds: the largest mean over the stories minus the smallest.

    Raises:
        ValueError: If the file holds videos of another recipe; `check_packed_videos` finds out what else may be wrong.
    """
    keep_recipe(config.file, config.recipe())
    videos = [
        PackedVideo(story=story, seed=seed, form=form)
        for story in config.stories
        for seed in range(config.num_seeds)
        for form in (PLAIN, *FORMATS)
    ]
    done = {_video_of(line) for line in read_lines(config.file)}
    todo = [video for video in videos if video not in done]
    for _ in append_lines(config.file, run_jobs(todo, config, load=_load, work=_make, workers=config.workers)):
        pass
    wanted = set(videos)
    lines = [line for line in read_lines(config.file) if _video_of(line) in wanted]
    return {
        "stories": config.num_stories,
        "seeds": config.num_seeds,
        "chunks": config.num_chunks,
        "metrics": {metric: _compared(lines, metric, seeds=range(config.num_seeds)) for metric in METRICS},
    }


def check_packed_videos(config: PackedVideosConfig) -> None:
    """Find out before the first video what would make all of them useless.

    Raises:
        ValueError: If no story comes back to a place, the model is not valid or draws pictures of another size, or the
            file holds videos of another recipe.
        OSError: If a file cannot be read.
    """
    plans = (plan_story(story, config.num_chunks) for story in config.stories)
    if not any(returns([chunk.place for chunk in plan.chunks]) for plan in plans):
        raise ValueError(
            f"none of {config.num_stories} stories comes back to a place in {config.num_chunks} chunks; "
            "make longer videos, or more of them"
        )
    _, sampler = _load(config)
    sampler.story(FIRST_STORY, 1)
    check_recipe(config.file, config.recipe())


def _compared(lines: Sequence[dict[str, Any]], metric: str, *, seeds: Sequence[int]) -> dict[str, Any]:
    means = {
        form: [_mean(line[metric] for line in lines if (line["form"], line["seed"]) == (form, seed)) for seed in seeds]
        for form in (PLAIN, *FORMATS)
    }
    spread = max(means[PLAIN]) - min(means[PLAIN])
    differences = {form: statistics.fmean(means[form]) - statistics.fmean(means[PLAIN]) for form in FORMATS}
    return {
        "by_seed": means,
        "spread": spread,
        "difference": differences,
        "within_spread": {form: abs(difference) <= spread for form, difference in differences.items()},
    }


def _mean(values: Iterable[float | None]) -> float:
    mean = mean_of_known(values)
    if mean is None:
        raise ValueError("no video comes back to a place; make longer videos, or more of them")
    return mean


def _video_of(line: dict[str, Any]) -> PackedVideo:
    return PackedVideo(story=line["story"], seed=line["seed"], form=line["form"])


def _load(config: PackedVideosConfig) -> tuple[PackedVideosConfig, StorySampler]:
    sampler = StorySampler.load(config.model, transformer=config.model / "transformer", sampling=config.sampling)
    return config, sampler


def _make(loaded: tuple[PackedVideosConfig, StorySampler], video: PackedVideo) -> dict[str, Any]:
    config, sampler = loaded
    story = sampler.story(video.story, config.num_chunks)
    given = given_chunks("given", story.truth.place.tolist())
    frames = sampler.sample(
        story,
        policy=sampler.sampling.policy(),
        given=given,
        seed=(video.seed << 32) + video.story,  # the same noise in every format
        quantization=FORMATS.get(video.form),
    ).frames
    colours = [record["colour"] for record in measure(frames, story, "given") if not math.isnan(record["colour"])]
    clarity = [value for chunk, value in enumerate(clarity_curve(frames, story)) if chunk not in given]
    found = {"colour": colours, "clarity": clarity}
    return asdict(video) | {name: statistics.fmean(values) if values else None for name, values in found.items()}
