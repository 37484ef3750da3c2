"""The JSON of runs: which have told every story, what is left to do, and writing it.

A folder may hold nothing else: what is there is not made again, whether or not the weights are.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bdiff.files.whole import write_whole
from bdiff_bench.harness.jobs import read_lines
from bdiff_bench.harness.machine import commit, describe_machine
from studies.ablation.cells import TRUTH
from studies.ablation.config import AblationConfig
from studies.ablation.figures import holds_stories
from studies.ablation.films import FilmJob
from studies.ablation.training import Run

_TRUE_CELL = {"label": TRUTH, "title": "the true films, as the autoencoder shows them"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """What a call had no time for."""

    stories: bool = False
    """Some stories to train on are not encoded."""
    trainings: int = 0
    films: int = 0

    def __bool__(self) -> bool:
        return self.stories or self.trainings > 0 or self.films > 0

    def __str__(self) -> str:
        counts = ((self.trainings, "post-trainings"), (self.films, "films"))
        parts = [f"{count} {what}" for count, what in counts if count]
        return ", ".join([*(["encoding of the stories"] if self.stories else []), *parts]) or "nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Narrator:
    """Who has stories to tell: a run whose weights are here, or the true films."""

    name: str
    """Of its file."""
    cell: dict[str, Any]
    seed: int
    training: dict[str, Any] | None
    """What its post-training reports; None: the true films."""

    def jobs(self, stories: Sequence[int]) -> list[FilmJob]:
        """The films of some stories."""
        weights = self.training["weights"] if self.training else None
        return [FilmJob(cell=self.cell["label"], seed=self.seed, story=s, weights=weights) for s in stories]


def untold_runs(config: AblationConfig, seed: int) -> list[Run]:
    """The runs of a seed that anything is left to do for: those whose JSON is not there or lacks stories."""
    runs = [Run(cell=cell, seed=seed) for cell in config.chosen]
    return [run for run in runs if not holds_stories(_file(config, run.name), config.story_seeds)]


def narrators(config: AblationConfig, seed: int) -> list[Narrator]:
    """Who has stories to tell in the turn of a seed; the first one's is that of the true films."""
    found = []
    if seed == 0 and not holds_stories(_file(config, TRUTH), config.story_seeds):
        found.append(Narrator(name=TRUTH, cell=_TRUE_CELL, seed=seed, training=None))
    for run in untold_runs(config, seed):
        if facts := run.facts(config.out):
            found.append(Narrator(name=run.name, cell=asdict(run.cell), seed=seed, training=facts))
    return found


def films_file(config: AblationConfig) -> Path:
    """Where films are kept until all of a run are told."""
    return config.out / "films.jsonl"


def kept_films(config: AblationConfig) -> dict[FilmJob, dict[str, Any]]:
    """The films told so far that are kept, by what they were made for."""
    lines = [line for line in read_lines(films_file(config)) if "weights" in line]  # older ones hold less
    return {FilmJob(cell=x["cell"], seed=x["seed"], story=x["story"], weights=x["weights"]): x for x in lines}


def what_is_left(config: AblationConfig, *, encoded: bool) -> Left:
    """What is still to be done.

    Args:
        config: The ablation.
        encoded: Whether nothing is left to encode.
    """
    kept = kept_films(config)
    seeds = range(config.num_seeds)
    trainings = sum(run.facts(config.out) is None for seed in seeds for run in untold_runs(config, seed))
    jobs = [job for seed in seeds for one in narrators(config, seed) for job in one.jobs(config.story_seeds)]
    films = trainings * config.num_stories + sum(job not in kept for job in jobs)
    return Left(stories=not encoded, trainings=trainings, films=films)


def write_results(config: AblationConfig, settings: dict[str, Any], seed: int) -> None:
    """Write the JSON of each run that has told every story; one that is whole stays, with where it was made.

    One that lacks stories is replaced as a whole: the films of a run are all of one training. A film is a line.
    """
    kept = kept_films(config)
    for narrator in narrators(config, seed):
        films = [kept.get(job) for job in narrator.jobs(config.story_seeds)]
        if all(films):
            _write_result(_file(config, narrator.name), narrator, settings, films)


def _write_result(file: Path, narrator: Narrator, settings: dict[str, Any], films: list[dict[str, Any]]) -> None:
    shared = {name: value for name, value in settings.items() if name != "bases"}
    content = {
        "cell": narrator.cell,
        "seed": narrator.seed,
        "config": shared | {"base": settings["bases"][str(narrator.seed)]},
        "commit": commit(),
        "machine": describe_machine(),
        "training": narrator.training,
    }
    head = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
    lines = ",\n".join(json.dumps(compact(film), separators=(",", ":"), allow_nan=False) for film in films)
    file.parent.mkdir(exist_ok=True)
    write_whole(file, f'{head},\n  "films": [\n{lines}\n  ]\n}}\n')


def compact(value: Any) -> Any:
    """JSON with the floats in it at four significant digits, far finer than any interval over stories."""
    if isinstance(value, dict):
        return {name: compact(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [compact(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _file(config: AblationConfig, name: str) -> Path:
    return config.out / "results" / f"{name}.json"
