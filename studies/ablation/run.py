"""The study itself: for each seed, post-train every configuration, then sample and measure every story.

What is done is kept, so that a study may be spread over days. A training goes on from its checkpoint, and a story that
has a line is not sampled again. A run whose JSON has all stories is done, wherever it was made.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import torch

from bdiff.files import write_whole
from bdiff_bench.harness import (
    FractionFile,
    TimeLimit,
    append_lines,
    progress_bar,
    run_jobs,
    watched_files,
    write_page,
)
from bdiff_core import load_transformer
from bdiff_train.transformer import FIRST_STORY, StorySampler
from storyworld import StoryVideo
from studies.ablation.config import AblationConfig, joined_settings
from studies.ablation.configurations import CONFIGURATIONS, TRUTH
from studies.ablation.figures import summarise
from studies.ablation.page import ablation_parts
from studies.ablation.plots import draw, draw_questions
from studies.ablation.reader_questions_page import questions_parts
from studies.ablation.results import (
    Left,
    kept_lines,
    lines_file,
    unfinished_runs,
    video_sources,
    what_is_left,
    write_results,
)
from studies.ablation.run_files import origins, read_runs
from studies.ablation.training import TrainingRun, encode_stories, post_train, training_config
from studies.ablation.videos import StoryJob, sampled_line, true_line
from vde_metrics import EfficientNetLite0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    """What every process gets."""

    config: AblationConfig
    limit: TimeLimit
    call: str
    """When the call began. Videos of one call are sampled in turns, so that their seconds may be compared."""


@dataclass(kw_only=True, slots=True)
class _Held:
    """What a process keeps between two stories."""

    context: _Context
    sampler: StorySampler
    """With the transformer of the first seed's base."""
    samplers: dict[str, StorySampler] = field(default_factory=dict)
    """By label, of one seed."""
    seed: int | None = None
    story: tuple[int, StoryVideo] | None = None


def run_ablation(
    config: AblationConfig, *, say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], Left]:
    """Train and measure what is missing, until the time is over; write the JSON of runs, figures, plots and page.

    Args:
        config: What is trained, sampled and measured.
        say: Called with lines of progress where there is no terminal.

    Returns:
        What ``summary.json`` holds, and what is left to do.

    Raises:
        ValueError: If the folder holds figures of other settings; `check` finds out what else may be wrong.
        FloatingPointError: If a training has no usable step; the error names the batch.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    settings = joined_settings(config, config.out / "settings.json")
    write_whole(config.out / "settings.json", json.dumps(settings, indent=2) + "\n")
    context = _Context(config=config, limit=TimeLimit(config.minutes), call=datetime.now(UTC).isoformat())
    encoded = what_is_left(config, encoded=True).trainings == 0 or _encode(context, say)
    for seed in range(config.num_seeds):
        if encoded:
            _train(context, seed, say)
        _sample(context, seed, say)
        write_results(config, settings, seed)
    return write_figures(config), what_is_left(config, encoded=encoded)


def check(config: AblationConfig) -> None:
    """Load everything that a study names, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of other settings.
        OSError: If a file cannot be read, or the encoder of subjects is not installed.
    """
    EfficientNetLite0()
    for seed in range(config.num_seeds):
        load_transformer(config.base(seed), dtype=torch.float32)
    _load(_Context(config=config, limit=TimeLimit(None), call="")).sampler.story(FIRST_STORY, 1)
    for configuration in (one for one in config.chosen if one.loss is not None):
        training_config(config, TrainingRun(configuration=configuration, seed=0))
    joined_settings(config, config.out / "settings.json")


def write_figures(config: AblationConfig) -> dict[str, Any]:
    """Write ``summary.json``, plots, ``page.md`` and ``questions.md`` from the JSON of the runs alone."""
    out, runs = config.out, read_runs(config.out)
    summary = summarise(
        runs,
        stories=config.story_seeds,
        seeds=range(config.num_seeds),
        window=config.window,
        wanted=[one.label for one in config.chosen],
    )
    summary |= {"config": json.loads((out / "settings.json").read_text(encoding="utf-8"))} | origins(runs)
    write_whole(out / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    parts = ablation_parts(summary, pictures=draw(out, summary))
    write_page(out / "page.md", parts, title="What the memory and the losses are worth")
    parts = questions_parts(summary, pictures=draw_questions(out, summary))
    write_page(out / "questions.md", parts, title="What the memory and the losses do")
    return summary


def _encode(context: _Context, say: Callable[[str], None]) -> bool:
    config = context.config
    with progress_bar("stories", config.training.stories + config.training.held_out, say=say) as update:
        return encode_stories(config, over=context.limit.over, on_stories=lambda done: update(done, ""))


def _train(context: _Context, seed: int, say: Callable[[str], None]) -> None:
    out, workers = context.config.out, context.config.workers
    todo = [run for run in unfinished_runs(context.config, seed) if run.facts(out) is None]
    if not todo or context.limit.over():
        return
    files = [FractionFile(run.folder(out)) for run in todo]
    with progress_bar(f"seed {seed}, post-training", len(todo), say=say) as update:

        def finished() -> int:
            return sum(run.facts(out) is not None for run in todo)

        with watched_files(files, done=finished, update=update):
            for run, over in run_jobs(todo, context, load=_same, work=_train_one, workers=workers):
                update(finished(), f"{run.name} {'is trained' if over else 'is not finished'}")


def _same(context: _Context) -> _Context:
    return context


def _train_one(context: _Context, run: TrainingRun) -> tuple[TrainingRun, bool]:
    if context.limit.over():
        return run, False
    folder = run.folder(context.config.out)
    folder.mkdir(parents=True, exist_ok=True)
    fraction = FractionFile(folder)

    def watch(done: float) -> bool:
        fraction.write(done)
        return context.limit.over()

    over = post_train(context.config, run, watch=watch)
    fraction.remove()
    return run, over


def _sample(context: _Context, seed: int, say: Callable[[str], None]) -> None:
    """Sample every story with every trained model of a seed, story by story, so that a stop leaves as many of each."""
    config = context.config
    sources, kept = video_sources(config, seed), kept_lines(config)
    jobs = [job for story in config.story_seeds for source in sources for job in source.jobs([story])]
    todo = [job for job in jobs if job not in kept]
    if not todo or context.limit.over():
        return
    with progress_bar(f"seed {seed}, videos", len(jobs), say=say) as update:
        results = run_jobs(todo, context, load=_load, work=_measure, workers=config.workers)
        lines = append_lines(lines_file(config), (line for line in results if line is not None))
        for count, line in enumerate(lines, start=len(jobs) - len(todo) + 1):
            update(count, f"{line['cell']}, story {line['story']}")


def _load(context: _Context) -> _Held:
    config = context.config
    sampler = StorySampler.load(config.model, transformer=config.base(0), sampling=config.sampling)
    return _Held(context=context, sampler=sampler)


def _measure(held: _Held, job: StoryJob) -> dict[str, Any] | None:
    """The line of a story; None if the time is over."""
    config = held.context.config
    if held.context.limit.over():
        return None
    if held.story is None or held.story[0] != job.story:
        held.story = job.story, held.sampler.story(job.story, config.num_chunks)
    story = held.story[1]
    if job.label == TRUTH:
        line = true_line(held.sampler, story, job)
    else:
        configuration = CONFIGURATIONS[job.label]
        line = sampled_line(_sampler(held, job), story, job, configuration=configuration, window=config.window)
    return line | {"call": held.context.call}


def _sampler(held: _Held, job: StoryJob) -> StorySampler:
    if held.seed != job.seed:
        held.samplers.clear()  # those of another seed are not needed any more
        held.seed = job.seed
    if job.label not in held.samplers:
        run = TrainingRun(configuration=CONFIGURATIONS[job.label], seed=job.seed)
        model = load_transformer(run.transformer(held.context.config.out), dtype=torch.float32).eval()
        held.samplers[job.label] = replace(held.sampler, model=model)
    return held.samplers[job.label]
