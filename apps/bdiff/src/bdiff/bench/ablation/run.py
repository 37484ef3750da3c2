"""The bench itself: seed by seed, every cell is post-trained, then every model tells every story.

What is done is kept: a training goes on from its checkpoint, a film that has a line is not made again, so that a study
may be spread over days.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bdiff.bench.ablation.cells import CELLS, TRUTH
from bdiff.bench.ablation.config import AblationConfig, joined_settings
from bdiff.bench.ablation.figures import holds_stories, origins, read_runs, summarise
from bdiff.bench.ablation.films import FilmJob, told_line, true_line
from bdiff.bench.ablation.page import ablation_parts
from bdiff.bench.ablation.plots import draw
from bdiff.bench.ablation.progress import Clock, FractionFile, stage_bar, watched_files
from bdiff.bench.ablation.training import Run, encode_stories, post_train, training_config
from bdiff.bench.jobs import append_lines, read_lines, run_jobs
from bdiff.bench.machine import commit, describe_machine
from bdiff.files import write_whole
from bdiff.telling import FIRST_STORY, Teller
from bdiff_core import load_transformer
from lvbench.storyworld import StoryVideo
from vde_metrics import EfficientNetLite0

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
class _Context:
    """What every process is told."""

    config: AblationConfig
    clock: Clock


@dataclass(kw_only=True, slots=True)
class _Studio:
    """What a process holds between films."""

    context: _Context
    teller: Teller
    """With the transformer of the first seed's base."""
    models: dict[str, Teller] = field(default_factory=dict)
    """By run, of one seed."""
    seed: int | None = None
    story: tuple[int, StoryVideo] | None = None


def bench_ablation(
    config: AblationConfig, *, say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], Left]:
    """Train and measure what is not there yet, as far as time goes; write the JSON of runs, figures, plots and page.

    Args:
        config: What is trained, told and measured.
        say: Told how far it is where there is no terminal.

    Returns:
        What ``summary.json`` holds, and what is left to do.

    Raises:
        ValueError: If the folder holds figures of other settings; `check` finds out what else may be wrong.
        FloatingPointError: If a training has no usable step; names the batch.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    settings = joined_settings(config, config.out / "settings.json")
    write_whole(config.out / "settings.json", json.dumps(settings, indent=2) + "\n")
    context = _Context(config=config, clock=Clock(config.minutes))
    with stage_bar("stories", config.training.stories + config.training.held_out, say=say) as update:
        encoded = encode_stories(config, over=context.clock.over, on_stories=lambda done: update(done, ""))
    for seed in range(config.num_seeds):
        runs = [Run(cell=cell, seed=seed) for cell in config.chosen]
        if encoded:
            _train(context, runs, say)
        _tell(context, runs, say)
        _write_results(config, settings, runs)
    return write_figures(config), _left(config, encoded)


def check(config: AblationConfig) -> None:
    """Load everything that a bench names, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of other settings.
        OSError: If a file cannot be read, or the encoder of subjects is not installed.
    """
    EfficientNetLite0()
    for seed in range(config.num_seeds):
        load_transformer(config.base(seed), dtype=torch.float32)
    _studio(_Context(config=config, clock=Clock(None))).teller.story(FIRST_STORY, 1)
    for cell in config.chosen:
        training_config(config, Run(cell=cell, seed=0))
    joined_settings(config, config.out / "settings.json")


def write_figures(config: AblationConfig) -> dict[str, Any]:
    """Write ``summary.json``, plots and ``page.md`` from the JSON of the runs alone."""
    out, runs = config.out, read_runs(config.out)
    summary = summarise(
        runs,
        stories=config.story_seeds,
        seeds=range(config.num_seeds),
        window=config.window,
        wanted=[cell.label for cell in config.chosen],
    )
    summary |= {"config": json.loads((out / "settings.json").read_text(encoding="utf-8"))} | origins(runs)
    write_whole(out / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    parts = ["# What the memory and the losses are worth", *ablation_parts(summary, pictures=draw(out, summary))]
    write_whole(out / "page.md", "\n\n".join(parts) + "\n")
    return summary


def _train(context: _Context, runs: Sequence[Run], say: Callable[[str], None]) -> None:
    out, workers = context.config.out, context.config.workers
    todo = [run for run in runs if run.facts(out) is None]
    if not todo or context.clock.over():
        return
    files = [FractionFile(run.folder(out)) for run in todo]
    with stage_bar(f"seed {todo[0].seed}, post-training", len(runs), say=say) as update:

        def finished() -> int:
            return sum(run.facts(out) is not None for run in runs)

        with watched_files(files, done=finished, update=update):
            for run, over in run_jobs(todo, context, load=_same, work=_train_one, workers=workers):
                update(finished(), f"{run.name} {'is trained' if over else 'is to be gone on with'}")


def _same(context: _Context) -> _Context:
    return context


def _train_one(context: _Context, run: Run) -> tuple[Run, bool]:
    if context.clock.over():
        return run, False
    folder = run.folder(context.config.out)
    folder.mkdir(parents=True, exist_ok=True)
    fraction = FractionFile(folder)

    def watch(done: float) -> bool:
        fraction.tell(done)
        return context.clock.over()

    over = post_train(context.config, run, watch=watch)
    (folder / "fraction").unlink(missing_ok=True)
    return run, over


def _tell(context: _Context, runs: Sequence[Run], say: Callable[[str], None]) -> None:
    """Every trained model of a seed tells every story; story by story, so that a stop leaves as many of each."""
    config = context.config
    trained = [run for run in runs if run.facts(config.out) is not None]
    labels = [*([TRUTH] if runs[0].seed == 0 else []), *(run.cell.label for run in trained)]
    jobs = [FilmJob(cell=label, seed=runs[0].seed, story=story) for story in config.story_seeds for label in labels]
    file = _lines(config)
    done = {_job_of(line) for line in read_lines(file)}
    todo = [job for job in jobs if job not in done]
    if not todo or context.clock.over():
        return
    with stage_bar(f"seed {runs[0].seed}, films", len(jobs), say=say) as update:
        results = run_jobs(todo, context, load=_studio, work=_film, workers=config.workers)
        lines = append_lines(file, (line for line in results if line is not None))
        for count, line in enumerate(lines, start=len(jobs) - len(todo) + 1):
            update(count, f"{line['cell']} tells {line['story']}")


def _studio(context: _Context) -> _Studio:
    config = context.config
    return _Studio(
        context=context, teller=Teller.load(config.model, transformer=config.base(0), sampling=config.sampling)
    )


def _film(studio: _Studio, job: FilmJob) -> dict[str, Any] | None:
    """A line; None if there is no time."""
    config = studio.context.config
    if studio.context.clock.over():
        return None
    if studio.story is None or studio.story[0] != job.story:
        studio.story = job.story, studio.teller.story(job.story, config.num_chunks)
    story = studio.story[1]
    if job.cell == TRUTH:
        return true_line(studio.teller, story, job)
    policy = CELLS[job.cell].make_policy()
    return told_line(_teller(studio, job), story, job, policy=policy, window=config.window)


def _teller(studio: _Studio, job: FilmJob) -> Teller:
    if studio.seed != job.seed:
        studio.models.clear()  # those of another seed are not needed any more
        studio.seed = job.seed
    if job.cell not in studio.models:
        folder = Run(cell=CELLS[job.cell], seed=job.seed).folder(studio.context.config.out) / "transformer"
        model = load_transformer(folder, dtype=torch.float32).eval()
        studio.models[job.cell] = replace(studio.teller, model=model)
    return studio.models[job.cell]


def _write_results(config: AblationConfig, settings: dict[str, Any], runs: Sequence[Run]) -> None:
    """The JSON of each run that has told every story; one that is there stays, with where it was made."""
    found = {(job.cell, job.seed, job.story): line for line in read_lines(_lines(config)) for job in [_job_of(line)]}
    seed = runs[0].seed
    told: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        (run.name, asdict(run.cell), run.facts(config.out)) for run in runs
    ]
    if seed == 0:
        told.append((TRUTH, _TRUE_CELL, None))
    for name, cell, training in told:
        lines = [found.get((cell["label"], seed, story)) for story in config.story_seeds]
        file = config.out / "results" / f"{name}.json"
        if all(lines) and not holds_stories(file, config.story_seeds):
            _write_result(file, cell, seed, settings, training, lines)


def _write_result(
    file: Path,
    cell: dict[str, Any],
    seed: int,
    settings: dict[str, Any],
    training: dict[str, Any] | None,
    lines: list[Any],
) -> None:
    shared = {name: value for name, value in settings.items() if name != "bases"}
    content = {
        "cell": cell,
        "seed": seed,
        "config": shared | {"base": settings["bases"][str(seed)]},
        "commit": commit(),
        "machine": describe_machine(),
        "training": training,
        "films": lines,
    }
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _left(config: AblationConfig, encoded: bool) -> Left:
    runs = [Run(cell=cell, seed=seed) for seed in range(config.num_seeds) for cell in config.chosen]
    there = {_job_of(line) for line in read_lines(_lines(config))}
    told = [(TRUTH, 0), *((run.cell.label, run.seed) for run in runs)]
    wanted = {FilmJob(cell=label, seed=seed, story=story) for label, seed in told for story in config.story_seeds}
    return Left(
        stories=not encoded,
        trainings=sum(run.facts(config.out) is None for run in runs),
        films=len(wanted - there),
    )


def _lines(config: AblationConfig) -> Path:
    return config.out / "films.jsonl"


def _job_of(line: dict[str, Any]) -> FilmJob:
    return FilmJob(cell=line["cell"], seed=line["seed"], story=line["story"])
