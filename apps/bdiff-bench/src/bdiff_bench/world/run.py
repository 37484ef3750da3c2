"""The bench itself: sample held-out stories, and evaluate the videos by the world's truth.

The first chunk of every story is given, so that the model knows what the protagonist looks like. Each story is a line
of JSON, so that a stopped bench goes on.
"""

import json
import logging
from dataclasses import asdict
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness.jobs import append_lines, read_lines, run_jobs
from bdiff_bench.harness.provenance import check_recipe, keep_recipe
from bdiff_bench.world.config import WorldBenchConfig
from bdiff_bench.world.figures import summarise, world_table
from bdiff_bench.world.scores import retrieval_share, score_story
from bdiff_core import SentenceTextEncoder
from bdiff_train.transformer import FIRST_STORY, StorySampler

logger = logging.getLogger(__name__)


def bench_world(config: WorldBenchConfig) -> dict[str, Any]:
    """Sample and evaluate the stories that have no line yet; write and return the summary.

    Raises:
        ValueError: If the folder holds figures of another recipe; `check` finds out what else may be wrong.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    keep_recipe(config.lines, config.recipe())
    done = {line["story"] for line in read_lines(config.lines)}
    todo = [story for story in config.stories if story not in done]
    for line in append_lines(config.lines, run_jobs(todo, config, load=_load, work=_score, workers=config.workers)):
        logger.info("%s", line)
    scored = [line for line in read_lines(config.lines) if line["story"] in config.stories]
    summary = summarise(scored, num_chunks=config.num_chunks) | {
        "retrieval": retrieval_share(
            SentenceTextEncoder(),
            config.policy,
            config.stories,
            num_chunks=config.num_chunks,
            companions=config.sampling.richness > 1,
        ),
        "config": _described(config),
    }
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(config.out / "summary.md", world_table(summary))
    return summary


def check(config: WorldBenchConfig) -> None:
    """Load the model and render a chunk, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of another recipe.
        OSError: If a file cannot be read.
    """
    _, sampler = _load(config)
    sampler.story(FIRST_STORY, 1)
    check_recipe(config.lines, config.recipe())


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


def _load(config: WorldBenchConfig) -> tuple[WorldBenchConfig, StorySampler]:
    sampler = StorySampler.load(config.model, transformer=config.model / "transformer", sampling=config.sampling)
    return config, sampler


def _score(loaded: tuple[WorldBenchConfig, StorySampler], story_seed: int) -> dict[str, Any]:
    config, sampler = loaded
    return asdict(score_story(config, story_seed, sampler))
