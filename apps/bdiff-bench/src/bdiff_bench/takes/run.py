"""The bench itself: sample held-out takes under each memory, and measure them by the world's truth.

The first chunk of every video is given, so that the model knows what the protagonist looks like. Each video is a line
of JSON, so that a stopped bench goes on.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from bdiff.files import whole_file, write_whole
from bdiff_bench.harness.jobs import append_lines, read_lines, run_jobs
from bdiff_bench.harness.provenance import check_recipe, keep_recipe
from bdiff_bench.takes.config import TRUTH, Job, TakesBenchConfig
from bdiff_bench.takes.figures import summarise, takes_tables
from bdiff_bench.takes.scores import score_video
from bdiff_bench.world import retrieval_share
from bdiff_core import SentenceTextEncoder
from bdiff_train.transformer import FIRST_STORY, StorySampler


def bench_takes(
    config: TakesBenchConfig, *, on_video: Callable[[int, int, float], None] = lambda *_: None
) -> dict[str, Any]:
    """Sample and measure the videos that have no line yet; write and return the summary.

    Args:
        config: What is sampled and measured.
        on_video: Called after each video with the number of videos done, of all videos, and the seconds left.

    Raises:
        ValueError: If the folder holds figures of another recipe; `check` finds out what else may be wrong.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    keep_recipe(config.lines, config.recipe())
    done = {(line["take"], line["story"], line["policy"]) for line in read_lines(config.lines)}
    todo = [job for job in config.jobs if (job.take, job.story, job.policy) not in done]
    begun, total = time.monotonic(), len(config.jobs)
    made = append_lines(config.lines, run_jobs(todo, config, load=_load, work=_score, workers=config.workers))
    for count, _ in enumerate(made, 1):
        left = (time.monotonic() - begun) / count * (len(todo) - count)
        on_video(total - len(todo) + count, total, left)
    stories = range(FIRST_STORY, FIRST_STORY + config.num_takes)
    summary = {
        "figures": summarise(read_lines(config.lines), takes=config.takes, policies=config.policies, stories=stories),
        "retrieval": _retrieval(config, stories),
        "config": _described(config),
    }
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(config.out / "summary.md", takes_tables(summary))
    for take in config.takes:
        _join_strips(config, take)
    return summary


def check(config: TakesBenchConfig) -> None:
    """Load the model and render a chunk of each kind, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of another recipe.
        OSError: If a file cannot be read.
    """
    _, sampler = _load(config)
    for take in config.takes:
        sampler.story(FIRST_STORY, 1, take=take)
    check_recipe(config.lines, config.recipe())


def _retrieval(config: TakesBenchConfig, stories: range) -> dict[str, Any]:
    """How often the first memory recalls the right place or spot, by kind."""
    policy, encoder = config.sampling.memory(config.policies[0]), SentenceTextEncoder()
    return {
        take: retrieval_share(
            encoder, policy, stories, num_chunks=config.num_chunks, companions=config.sampling.richness > 1, take=take
        )
        for take in config.takes
        if take != "place"  # nothing is left there
    }


def _described(config: TakesBenchConfig) -> dict[str, Any]:
    names = ("takes", "policies", "num_takes", "num_chunks", "seed")
    return {name: getattr(config, name) for name in names} | {"sampling": asdict(config.sampling)}


def _join_strips(config: TakesBenchConfig, take: str) -> None:
    """Write TAKE.png: the first video of a kind, the truth above what is made under each memory."""
    from PIL import Image

    strips = [config.strip(take, policy) for policy in (TRUTH, *config.policies)]
    rows = []
    for strip in strips:
        with Image.open(strip) as picture:
            rows.append(np.asarray(picture))
    sheet = Image.fromarray(np.concatenate(rows))
    with whole_file(config.out / f"{take}.png") as partial:
        sheet.save(partial, format="png")


def _load(config: TakesBenchConfig) -> tuple[TakesBenchConfig, StorySampler]:
    return config, StorySampler.load(config.model, transformer=config.model / "transformer", sampling=config.sampling)


def _score(loaded: tuple[TakesBenchConfig, StorySampler], job: Job) -> dict[str, Any]:
    config, sampler = loaded
    return score_video(config, job, sampler)
