"""The bench itself: seed by seed, every cell is post-trained, then every model tells every story.

What is done is kept: a training goes on from its checkpoint, a film that has a line is not made again, so that a study
may be spread over days. A run whose JSON has all stories is done, wherever it was made.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import torch

from bdiff.files.whole import write_whole
from bdiff_bench.harness.jobs import append_lines, run_jobs
from bdiff_core import load_transformer
from bdiff_train.transformer.story_sampler import FIRST_STORY, Teller
from storyworld import StoryVideo
from studies.ablation.cells import CELLS, TRUTH
from studies.ablation.config import AblationConfig, joined_settings
from studies.ablation.figures import origins, read_runs, summarise
from studies.ablation.films import FilmJob, told_line, true_line
from studies.ablation.page import ablation_parts
from studies.ablation.plots import draw, draw_questions
from studies.ablation.progress import Clock, FractionFile, stage_bar, watched_files
from studies.ablation.questions_page import questions_parts
from studies.ablation.results import (
    Left,
    films_file,
    kept_films,
    narrators,
    untold_runs,
    what_is_left,
    write_results,
)
from studies.ablation.training import Run, encode_stories, post_train, training_config
from vde_metrics import EfficientNetLite0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    """What every process is told."""

    config: AblationConfig
    clock: Clock
    call: str
    """When it began: films of one call are told in turns, so that their seconds may be compared."""


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
    context = _Context(config=config, clock=Clock(config.minutes), call=datetime.now(UTC).isoformat())
    encoded = what_is_left(config, encoded=True).trainings == 0 or _encode(context, say)
    for seed in range(config.num_seeds):
        if encoded:
            _train(context, seed, say)
        _tell(context, seed, say)
        write_results(config, settings, seed)
    return write_figures(config), what_is_left(config, encoded=encoded)


def check(config: AblationConfig) -> None:
    """Load everything that a bench names, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of other settings.
        OSError: If a file cannot be read, or the encoder of subjects is not installed.
    """
    EfficientNetLite0()
    for seed in range(config.num_seeds):
        load_transformer(config.base(seed), dtype=torch.float32)
    _studio(_Context(config=config, clock=Clock(None), call="")).teller.story(FIRST_STORY, 1)
    for cell in (cell for cell in config.chosen if cell.loss is not None):
        training_config(config, Run(cell=cell, seed=0))
    joined_settings(config, config.out / "settings.json")


def write_figures(config: AblationConfig) -> dict[str, Any]:
    """Write ``summary.json``, plots, ``page.md`` and ``questions.md`` from the JSON of the runs alone."""
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
    pages = {
        "page.md": [
            "# What the memory and the losses are worth",
            *ablation_parts(summary, pictures=draw(out, summary)),
        ],
        "questions.md": [
            "# What the memory and the losses do",
            *questions_parts(summary, pictures=draw_questions(out, summary)),
        ],
    }
    for name, parts in pages.items():
        write_whole(out / name, "\n\n".join(parts) + "\n")
    return summary


def _encode(context: _Context, say: Callable[[str], None]) -> bool:
    config = context.config
    with stage_bar("stories", config.training.stories + config.training.held_out, say=say) as update:
        return encode_stories(config, over=context.clock.over, on_stories=lambda done: update(done, ""))


def _train(context: _Context, seed: int, say: Callable[[str], None]) -> None:
    out, workers = context.config.out, context.config.workers
    todo = [run for run in untold_runs(context.config, seed) if run.facts(out) is None]
    if not todo or context.clock.over():
        return
    files = [FractionFile(run.folder(out)) for run in todo]
    with stage_bar(f"seed {seed}, post-training", len(todo), say=say) as update:

        def finished() -> int:
            return sum(run.facts(out) is not None for run in todo)

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


def _tell(context: _Context, seed: int, say: Callable[[str], None]) -> None:
    """Every trained model of a seed tells every story; story by story, so that a stop leaves as many of each."""
    config = context.config
    telling, kept = narrators(config, seed), kept_films(config)
    jobs = [job for story in config.story_seeds for narrator in telling for job in narrator.jobs([story])]
    todo = [job for job in jobs if job not in kept]
    if not todo or context.clock.over():
        return
    with stage_bar(f"seed {seed}, films", len(jobs), say=say) as update:
        results = run_jobs(todo, context, load=_studio, work=_film, workers=config.workers)
        lines = append_lines(films_file(config), (line for line in results if line is not None))
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
        line = true_line(studio.teller, story, job)
    else:
        line = told_line(_teller(studio, job), story, job, cell=CELLS[job.cell], window=config.window)
    return line | {"call": studio.context.call}


def _teller(studio: _Studio, job: FilmJob) -> Teller:
    if studio.seed != job.seed:
        studio.models.clear()  # those of another seed are not needed any more
        studio.seed = job.seed
    if job.cell not in studio.models:
        folder = Run(cell=CELLS[job.cell], seed=job.seed).transformer(studio.context.config.out)
        model = load_transformer(folder, dtype=torch.float32).eval()
        studio.models[job.cell] = replace(studio.teller, model=model)
    return studio.models[job.cell]
