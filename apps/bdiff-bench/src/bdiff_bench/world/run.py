"""The bench itself: sample held-out videos, and evaluate them by the world's truth.

The first chunk of every video is given, so that the model knows what the protagonist looks like. Each video is a line
of JSON, so that a stopped bench goes on. All memories get the same noise.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness.jobs import append_lines, read_lines, run_jobs
from bdiff_bench.harness.provenance import check_recipe, keep_recipe
from bdiff_bench.memory.stills import save_stills
from bdiff_bench.world.comparison import AGAINST, compare, comparison_parts
from bdiff_bench.world.config import STORY, WorldBenchConfig, WorldJob
from bdiff_bench.world.figures import summarise, world_table
from bdiff_bench.world.scores import TrueVideo, retrieval_share, score_story
from bdiff_bench.world.stills import draw_take, still_file
from bdiff_core import SentenceTextEncoder
from bdiff_train.transformer import FIRST_STORY, StorySampler

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class _Loaded:
    """What the jobs of one process share."""

    config: WorldBenchConfig
    sampler: StorySampler
    true: TrueVideo | None = None
    """The true video of the last job: the next memory often has the same."""


def bench_world(
    config: WorldBenchConfig, *, on_take: Callable[[int, int, float], None] = lambda done, total, seconds: None
) -> dict[str, Any]:
    """Sample and evaluate the videos that have no line yet; write and return the summary.

    Args:
        config: What is sampled and measured.
        on_take: Called with the number of videos done so far, their total, and about how many seconds the rest takes.

    Raises:
        ValueError: If the folder holds figures of another recipe; `check` finds out what else may be wrong.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    keep_recipe(config.lines, config.recipe())
    found, jobs = _found(config), config.jobs
    todo = [job for job in jobs if job not in found]
    for line in _timed(config, todo, total=len(jobs), on_take=on_take):
        logger.info("%s", line)
    found = _found(config)
    lines = [found[job] for job in jobs]
    summary = _summary(config, lines)
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    text = world_table(summary) if config.is_plain else "\n\n".join(comparison_parts(summary["takes"])) + "\n"
    write_whole(config.out / "summary.md", text)
    for take in config.takes:
        draw_take(config, take)
    return summary


def check(config: WorldBenchConfig) -> None:
    """Load the model and render a chunk of each kind, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of another recipe.
        OSError: If a file cannot be read.
    """
    sampler = _load(config).sampler
    for take in config.takes:
        sampler.story(FIRST_STORY, 1, take=take)
    check_recipe(config.lines, config.recipe())


def _found(config: WorldBenchConfig) -> dict[WorldJob, dict[str, Any]]:
    """The lines of the folder by what they are of; the newest one of each.

    A comparison shows drift, so lines of older versions, which have none, do not count there.
    """
    return {
        (job := WorldJob.of(line)): line | {"take": job.take, "policy": job.policy}
        for line in read_lines(config.lines)
        if config.is_plain or "drift" in line
    }


def _timed(
    config: WorldBenchConfig, todo: Sequence[WorldJob], *, total: int, on_take: Callable[[int, int, float], None]
) -> Iterator[dict[str, Any]]:
    """Make the lines of some jobs, and tell how far the bench is."""
    started, before = time.monotonic(), total - len(todo)
    results = run_jobs(todo, config, load=_load, work=_score, workers=config.workers)
    for count, line in enumerate(append_lines(config.lines, results), start=1):
        on_take(before + count, total, (time.monotonic() - started) / count * (len(todo) - count))
        yield line


def _summary(config: WorldBenchConfig, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """One table of figures for stories under the model's own memory; else figures by kind and memory."""
    if config.is_plain:
        (policy,) = config.memories
        summary = summarise(lines, num_chunks=config.num_chunks) | {"retrieval": _retrieval(config, policy)}
        return summary | {"config": _described(config)}
    takes = {}
    for take in config.takes:
        of_kind = [line for line in lines if line["take"] == take]
        takes[take] = compare(of_kind, policies=tuple(config.memories), num_chunks=config.num_chunks)
        for policy, found in takes[take]["policies"].items():
            found["retrieval"] = _retrieval(config, policy, take=take)
    asked = {"takes": ", ".join(config.takes), "policies": ", ".join(config.memories)}
    return {"takes": takes, "against": AGAINST, "config": _described(config) | asked}


def _retrieval(config: WorldBenchConfig, policy: str, *, take: str = STORY) -> dict[str, float | None]:
    if policy == "none":  # to it every chunk at a place that was seen is a return, and nothing is recalled
        return {"returns": 0, "share": None}
    return retrieval_share(
        SentenceTextEncoder(),
        config.memories[policy],
        config.stories,
        num_chunks=config.num_chunks,
        companions=config.sampling.richness > 1,
        take=take,
    )


def _described(config: WorldBenchConfig) -> dict[str, str]:
    """The config and the settings that were used, under the names that summaries always had."""
    sampling = config.sampling
    used = {
        "out": config.out,
        "model": config.model,
        "num_stories": config.num_stories,
        "num_chunks": config.num_chunks,
        "num_steps": sampling.steps,
        "guidance": sampling.guidance,
        "seniority": sampling.age_bonus,
        "num_sink": sampling.num_sink,
        "seed": config.seed,
        "richness": sampling.richness,
        "workers": config.workers,
        "shift": sampling.shift,
        "noise": sampling.noise,
    }
    return {name: str(value) for name, value in used.items()}


def _load(config: WorldBenchConfig) -> _Loaded:
    sampler = StorySampler.load(config.model, transformer=config.model / "transformer", sampling=config.sampling)
    return _Loaded(config=config, sampler=sampler)


def _score(loaded: _Loaded, job: WorldJob) -> dict[str, Any]:
    """One line: sample a video, and evaluate it."""
    config, sampler, true = loaded.config, loaded.sampler, loaded.true
    if true is None or (true.take, true.seed) != (job.take, job.story):
        loaded.true = true = TrueVideo.render(sampler, job, config.num_chunks)
    memory = config.memories[job.policy]
    frames = sampler.sample(true.story, policy=memory, seed=config.seed + job.story).frames
    if job.story == config.stories[0]:
        save_stills(still_file(config, job), frames, true.story)
    return asdict(score_story(frames, true, job.policy))
