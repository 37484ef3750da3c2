"""The bench itself: every arm samples every story, and the measures become tables, plots and a picture."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff.files import write_whole
from bdiff_bench.harness.jobs import append_lines, plain_figure, read_lines, run_jobs
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.harness.result_page import write_page
from bdiff_bench.harness.statistics import mean_of_known
from bdiff_bench.memory.arms import RANDOM_PLACE, RECONSTRUCTION, YARDSTICKS
from bdiff_bench.memory.config import MemoryBenchConfig, MemoryRecipe
from bdiff_bench.memory.figures import summarise
from bdiff_bench.memory.measures import Mode, given_chunks, measure, measure_random_place, token_shares
from bdiff_bench.memory.page import PICTURES, memory_parts
from bdiff_bench.memory.plots import draw_errors, draw_tokens
from bdiff_bench.memory.stills import draw_returns, save_stills, still_path
from bdiff_train.transformer import FIRST_STORY, StorySampler
from storyworld import StoryVideo

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoJob:
    """One video to make and measure."""

    arm: str
    """Label of an arm or of a yardstick."""
    story: int
    seed: int
    mode: Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loaded:
    """What the jobs of one process share."""

    config: MemoryBenchConfig
    samplers: dict[str, StorySampler]
    """By the arm's label."""


def bench_memory(
    config: MemoryBenchConfig, *, on_video: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Make and measure the videos that have no line yet; write ``summary.json``, ``page.md`` and its pictures.

    Args:
        config: What is sampled and measured.
        on_video: Called with the number of videos measured so far and their total.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ValueError: If the folder holds figures of another recipe; `check` finds out what else may be wrong.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    recipe = MemoryRecipe.of(config).join(config.out / "recipe.json")
    write_whole(config.out / "recipe.json", json.dumps(asdict(recipe), indent=2) + "\n")
    jobs = _jobs(config)
    file = config.out / "films.jsonl"
    done = {_job_of(line) for line in read_lines(file)}
    todo = [job for job in jobs if job not in done]
    results = run_jobs(todo, config, load=_load, work=_make, workers=config.workers)
    for count, line in enumerate(append_lines(file, results), start=len(jobs) - len(todo) + 1):
        logger.info("%s sampled story %s (%s)", line["arm"], line["story"], line["mode"])
        on_video(count, len(jobs))
    wanted = set(jobs)
    summary = _summary(config, recipe, [line for line in read_lines(file) if _job_of(line) in wanted])
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    parts = memory_parts(summary, pictures=_draw(config.out, summary))
    write_page(config.out / "page.md", parts, title="What the memory is worth")
    return summary


def check(config: MemoryBenchConfig) -> None:
    """Load everything that a bench names and render a chunk, to find out now what is not usable.

    Raises:
        ValueError: If a setting, a file or the richness is not valid, or the folder holds figures of another recipe.
        OSError: If a file cannot be read.
    """
    sampler = next(iter(_load(config).samplers.values()))
    sampler.story(FIRST_STORY, 1)
    MemoryRecipe.of(config).join(config.out / "recipe.json")


def _jobs(config: MemoryBenchConfig) -> list[VideoJob]:
    """All videos, story by story, so that a bench that is stopped has as many of each arm."""
    sampled = [(arm.label, seed) for seed in range(config.num_seeds) for arm in config.arms]
    measured = [*((label, 0) for label in YARDSTICKS), *sampled]
    return [
        VideoJob(arm=label, story=story, seed=seed, mode=mode)
        for story in config.stories
        for mode in config.modes
        for label, seed in measured
    ]


def _job_of(line: dict[str, Any]) -> VideoJob:
    return VideoJob(arm=line["arm"], story=line["story"], seed=line["seed"], mode=line["mode"])


def _load(config: MemoryBenchConfig) -> _Loaded:
    loaded: dict[Path, StorySampler] = {}
    for arm in config.arms:
        folder = arm.transformer(config.model)
        if folder not in loaded:
            loaded[folder] = StorySampler.load(
                config.model, transformer=folder, sampling=config.sampling, device=config.device
            )
    return _Loaded(config=config, samplers={arm.label: loaded[arm.transformer(config.model)] for arm in config.arms})


def _make(loaded: _Loaded, job: VideoJob) -> dict[str, Any]:
    """One line: the records of a video, and how much of the past it was shown."""
    config = loaded.config
    sampler = next(iter(loaded.samplers.values()))
    story = sampler.story(job.story, config.num_chunks)
    tokens = None
    if job.arm == RANDOM_PLACE:
        records = measure_random_place(story, job.mode)
    elif job.arm == RECONSTRUCTION:
        records = measure(sampler.reconstruct(story), story, job.mode)
    else:
        frames, tokens = _sample(loaded, job, story)
        records = measure(frames, story, job.mode)
        save_stills(still_path(config.out, **asdict(job)), frames, story)
    return asdict(job) | {"tokens": tokens, "chunks": [_plain(record) for record in records]}


def _sample(loaded: _Loaded, job: VideoJob, story: StoryVideo) -> tuple[Float[Tensor, "3 t h w"], dict[str, Any]]:
    arm = next(arm for arm in loaded.config.arms if arm.label == job.arm)
    sampler = loaded.samplers[job.arm]
    video = sampler.sample(
        story,
        policy=arm.make_policy(),
        given=given_chunks(job.mode, story.truth.place.tolist()),
        seed=(job.seed << 32) + job.story,  # each story of each seed has its own noise, the same for all arms
    )
    stride = sampler.vae.config.spatial_stride
    height, width = (side // stride for side in story.frames.shape[2:])
    tokens = sampler.model.config.num_tokens(sampler.sampling.latent_frames, height, width)
    return video.frames, token_shares(video.trace, tokens_per_chunk=tokens, window=loaded.config.window)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Numbers of chunks and places as they are, figures as JSON has them."""
    return {name: value if isinstance(value, int) else plain_figure(value) for name, value in record.items()}


def _summary(config: MemoryBenchConfig, recipe: MemoryRecipe, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labels = [*(arm.label for arm in config.arms), *YARDSTICKS]
    return {
        "config": {
            "model": str(config.model),
            "num_stories": config.num_stories,
            "num_seeds": config.num_seeds,
            "num_chunks": config.num_chunks,
            "device": config.device,
            "sampling": recipe.sampling,
        },
        "machine": describe_machine(),
        "window": config.window,
        "against": config.baseline,
        "arms": {
            arm.label: recipe.arms[arm.label]
            | {"folder": str(arm.transformer(config.model)), "tokens": _tokens(lines, arm.label)}
            for arm in config.arms
        },
        "figures": summarise(
            lines, labels=labels, against=config.baseline, window=config.window, num_chunks=config.num_chunks
        ),
    }


def _tokens(lines: Sequence[dict[str, Any]], label: str) -> dict[str, Any]:
    """How much of the past an arm's videos were shown, mean over the videos."""
    shares = [line["tokens"] for line in lines if line["arm"] == label]
    kept = torch.tensor([share["kept"] for share in shares if share["kept"] is not None], dtype=torch.float64)
    return {
        "kept": kept.mean(0).tolist() if len(kept) else None,
        "shown": mean_of_known(share["shown"] for share in shares),
    }


def _draw(out: Path, summary: dict[str, Any]) -> dict[str, str]:
    """Draw the pictures that there are figures for; the link of each."""
    draw = dict(zip(PICTURES, (draw_errors, draw_returns, draw_tokens), strict=True))
    return {name: name for name, function in draw.items() if function(out / name, summary)}
