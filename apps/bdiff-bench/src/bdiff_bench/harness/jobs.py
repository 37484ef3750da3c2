"""Jobs in several processes, whose results are kept as lines of JSON, so that a stopped bench goes on."""

import json
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from bdiff_bench.harness.processes import end_with_parent

Config = TypeVar("Config")
Parts = TypeVar("Parts")
Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    jobs: Sequence[Job],
    config: Config,
    *,
    load: Callable[[Config], Parts],
    work: Callable[[Parts, Job], Result],
    workers: int,
) -> Iterator[Result]:
    """Do every job and yield the results as they are finished, in any order.

    Args:
        jobs: What is handed to ``work``, one at a time.
        config: What is handed to ``load``.
        load: Makes what all jobs of a process share, such as a model. It must be a function of a module.
        work: Does one job. It must be a function of a module.
        workers: Number of processes, each on one thread. 1: this process, on the threads it has.
    """
    if not jobs:
        return
    if workers == 1 or len(jobs) == 1:
        parts = load(config)
        yield from (work(parts, job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(jobs)), initializer=_start, initargs=(config, load, work)) as pool:
        yield from pool.imap_unordered(_do, jobs)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; a last line that was cut off while it was written does not count."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def append_lines(path: Path, results: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Write each result as a line of a file, and yield it."""
    _drop_unfinished_line(path)
    with path.open("a", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(result) + "\n")
            file.flush()
            yield result


def plain_figure(value: float | None) -> float | None:
    """A number as JSON has it: rounded to six digits, and None for nan and infinity."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _drop_unfinished_line(path: Path) -> None:
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


_HELD: dict[str, Any] = {}  # one process's config, functions and, from its first job on, parts


def _start(config: Any, load: Callable[[Any], Any], work: Callable[[Any, Any], Any]) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    _HELD.update(config=config, load=load, work=work)


def _do(job: Any) -> Any:
    if "parts" not in _HELD:  # not in _start: a pool starts a process that fails there again, for ever
        _HELD["parts"] = _HELD["load"](_HELD["config"])
    return _HELD["work"](_HELD["parts"], job)
