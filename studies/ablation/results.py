"""The JSON of runs: which runs have sampled every story, what is left to do, and writing it.

A folder may hold nothing else. What is there is not made again, whether or not the weights are there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness import commit, describe_machine, read_lines
from studies.ablation.config import AblationConfig
from studies.ablation.configurations import TRUTH
from studies.ablation.run_files import holds_stories
from studies.ablation.training import TrainingRun
from studies.ablation.videos import StoryJob

_TRUE_VIDEOS = {"label": TRUTH, "title": "the true videos after the autoencoder"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """What a call had no time for."""

    stories: bool = False
    """Some stories to train on are not encoded."""
    trainings: int = 0
    """Post-trainings that are not over."""
    videos: int = 0
    """Stories that are not sampled and measured, counted once for each model."""

    def __bool__(self) -> bool:
        return self.stories or self.trainings > 0 or self.videos > 0

    def __str__(self) -> str:
        counts = ((self.trainings, "post-trainings"), (self.videos, "videos"))
        parts = [f"{count} {what}" for count, what in counts if count]
        return ", ".join([*(["encoding of the stories"] if self.stories else []), *parts]) or "nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSource:
    """Where videos of stories come from: a run whose weights are here, or the true videos."""

    name: str
    """Name of its file."""
    described: dict[str, Any]
    """The configuration, as the file has it."""
    seed: int
    """Seed of the post-training."""
    training: dict[str, Any] | None
    """The report of its post-training; None: the true videos."""

    def jobs(self, stories: Sequence[int]) -> list[StoryJob]:
        """The jobs of some stories."""
        weights = self.training["weights"] if self.training else None
        return [StoryJob(label=self.described["label"], seed=self.seed, story=s, weights=weights) for s in stories]


def unfinished_runs(config: AblationConfig, seed: int) -> list[TrainingRun]:
    """The runs of a seed whose JSON is not there or lacks stories."""
    runs = [TrainingRun(configuration=one, seed=seed) for one in config.chosen]
    return [run for run in runs if not holds_stories(_file(config, run.name), config.story_seeds)]


def video_sources(config: AblationConfig, seed: int) -> list[VideoSource]:
    """Sources with stories left to sample for a seed; the true videos belong to the first seed."""
    found = []
    if seed == 0 and not holds_stories(_file(config, TRUTH), config.story_seeds):
        found.append(VideoSource(name=TRUTH, described=_TRUE_VIDEOS, seed=seed, training=None))
    for run in unfinished_runs(config, seed):
        if facts := run.facts(config.out):
            described = run.configuration.to_json()
            found.append(VideoSource(name=run.name, described=described, seed=seed, training=facts))
    return found


def lines_file(config: AblationConfig) -> Path:
    """The file where lines are kept until a run has sampled every story."""
    return config.out / "films.jsonl"


def kept_lines(config: AblationConfig) -> dict[StoryJob, dict[str, Any]]:
    """The lines that are kept, by job."""
    lines = [line for line in read_lines(lines_file(config)) if "weights" in line]  # older lines hold less
    return {StoryJob(label=x["cell"], seed=x["seed"], story=x["story"], weights=x["weights"]): x for x in lines}


def what_is_left(config: AblationConfig, *, encoded: bool) -> Left:
    """What is still to be done.

    Args:
        config: The ablation.
        encoded: Whether all stories to train on are encoded.
    """
    kept = kept_lines(config)
    seeds = range(config.num_seeds)
    trainings = sum(run.facts(config.out) is None for seed in seeds for run in unfinished_runs(config, seed))
    jobs = [job for seed in seeds for one in video_sources(config, seed) for job in one.jobs(config.story_seeds)]
    videos = trainings * config.num_stories + sum(job not in kept for job in jobs)
    return Left(stories=not encoded, trainings=trainings, videos=videos)


def write_results(config: AblationConfig, settings: dict[str, Any], seed: int) -> None:
    """Write the JSON of each run that has sampled every story.

    A JSON that is complete stays as it is, with the machine and commit it was made with. One that lacks stories is
    replaced as a whole, because all lines of a run must be of one training.
    """
    kept = kept_lines(config)
    for source in video_sources(config, seed):
        lines = [kept[job] for job in source.jobs(config.story_seeds) if job in kept]
        if len(lines) == config.num_stories:
            _write_result(_file(config, source.name), source, settings, lines)


def compact(value: Any) -> Any:
    """JSON whose floats have four significant digits, far finer than any interval over stories."""
    if isinstance(value, dict):
        return {name: compact(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [compact(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _write_result(file: Path, source: VideoSource, settings: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    shared = {name: value for name, value in settings.items() if name != "bases"}
    content = {
        "cell": source.described,
        "seed": source.seed,
        "config": shared | {"base": settings["bases"][str(source.seed)]},
        "commit": commit(),
        "machine": describe_machine(),
        "training": source.training,
    }
    head = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
    films = ",\n".join(json.dumps(compact(line), separators=(",", ":"), allow_nan=False) for line in lines)
    file.parent.mkdir(exist_ok=True)
    write_whole(file, f'{head},\n  "films": [\n{films}\n  ]\n}}\n')


def _file(config: AblationConfig, name: str) -> Path:
    return config.out / "results" / f"{name}.json"
