"""What packing costs a video: the same films with a bank as it comes and in few bits, and other seeds beside them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bdiff.defaults import Sampling
from bdiff_bench.harness.jobs import append_lines, read_lines, run_jobs
from bdiff_bench.harness.recipe import check_recipe, keep_recipe, model_recipe
from bdiff_bench.memory.measures import given_chunks, measure
from bdiff_bench.memory.visits import returns
from bdiff_bench.world import clarity_curve
from bdiff_train.transformer.story_sampler import FIRST_STORY, Teller, sampling_of
from storyworld import plan_story
from studies.memory_cost.exactness import FORMATS

PLAIN = "plain"
METRICS = ("colour", "clarity")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConfig:
    """Which films are made."""

    file: Path
    """Holds a line a film; a stopped bench goes on."""
    model: Path
    """Model folder."""
    num_chunks: int
    """Of each film."""
    num_stories: int = 4
    """Held-out stories."""
    num_seeds: int = 3
    """Films of each story in each format."""
    steps: int | None = None
    """Denoising steps a chunk; None: as the model wants it."""
    workers: int = 2
    """Processes, each on one thread."""

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled."""
        return sampling_of(self.model, steps=self.steps)

    @property
    def stories(self) -> range:
        """Seeds of the stories."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    def recipe(self) -> dict[str, Any]:
        """What a film's line depends on, beside what the line says."""
        return model_recipe(self.model, self.sampling) | {"num_chunks": self.num_chunks}


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """One film to make and measure."""

    story: int
    seed: int
    form: str
    """One of `FORMATS`, or `PLAIN`."""


def measure_videos(config: VideoConfig) -> dict[str, Any]:
    """Colour error of returns to places and clarity, by format and seed, and whether they differ as seeds do.

    First visits to places are given, as in `bdiff bench memory`. The spread is that of the plain films between seeds,
    each seed the mean over the stories: largest minus smallest.

    Raises:
        ValueError: If the file holds films of another recipe; `check_videos` finds out what else may be wrong.
    """
    keep_recipe(config.file, config.recipe())
    films = [
        Film(story=story, seed=seed, form=form)
        for story in config.stories
        for seed in range(config.num_seeds)
        for form in (PLAIN, *FORMATS)
    ]
    done = {_film_of(line) for line in read_lines(config.file)}
    todo = [film for film in films if film not in done]
    for _ in append_lines(config.file, run_jobs(todo, config, load=_load, work=_make, workers=config.workers)):
        pass
    wanted = set(films)
    lines = [line for line in read_lines(config.file) if _film_of(line) in wanted]
    return {
        "stories": config.num_stories,
        "seeds": config.num_seeds,
        "chunks": config.num_chunks,
        "metrics": {metric: _compared(lines, metric, seeds=range(config.num_seeds)) for metric in METRICS},
    }


def check_videos(config: VideoConfig) -> None:
    """Find out before the first film what would make all of them useless.

    Raises:
        ValueError: If no story comes back to a place, the model is not valid or draws pictures of another size, or the
            file holds films of another recipe.
        OSError: If a file cannot be read.
    """
    plans = (plan_story(story, config.num_chunks) for story in config.stories)
    if not any(returns([chunk.place for chunk in plan.chunks]) for plan in plans):
        raise ValueError(
            f"none of {config.num_stories} stories comes back to a place in {config.num_chunks} chunks; "
            "make longer films, or more of them"
        )
    _, teller = _load(config)
    teller.story(FIRST_STORY, 1)
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
    measured = [value for value in values if value is not None]
    if not measured:
        raise ValueError("no film comes back to a place; make longer films, or more of them")
    return statistics.fmean(measured)


def _film_of(line: dict[str, Any]) -> Film:
    return Film(**{name: line[name] for name in Film.__slots__})


def _load(config: VideoConfig) -> tuple[VideoConfig, Teller]:
    teller = Teller.load(config.model, transformer=config.model / "transformer", sampling=config.sampling)
    return config, teller


def _make(parts: tuple[VideoConfig, Teller], film: Film) -> dict[str, Any]:
    config, teller = parts
    story = teller.story(film.story, config.num_chunks)
    given = given_chunks("given", story.truth.place.tolist())
    frames = teller.tell(
        story,
        policy=teller.sampling.memory(),
        given=given,
        seed=(film.seed << 32) + film.story,  # the same noise in every format
        quantization=FORMATS.get(film.form),
    ).frames
    colours = [record["colour"] for record in measure(frames, story, "given") if not math.isnan(record["colour"])]
    clarity = [value for chunk, value in enumerate(clarity_curve(frames, story)) if chunk not in given]
    found = {"colour": colours, "clarity": clarity}
    return asdict(film) | {name: statistics.fmean(values) if values else None for name, values in found.items()}
