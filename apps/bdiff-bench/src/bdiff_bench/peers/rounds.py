"""Rounds of videos: every contestant has its own process, and they take turns."""

import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch

from bdiff.run import give_back_freed
from bdiff_bench.harness.machine import anonymous_bytes
from bdiff_bench.harness.processes import one_process
from bdiff_bench.peers.config import OURS, YARDSTICK, PeersConfig
from bdiff_bench.peers.shapes import SHAPES, PeerShape
from bdiff_bench.peers.timed_video import Contestant

_POLL = 0.02  # seconds between two looks at a process's memory
_WARM_STEPS = 2


def run_rounds(
    config: PeersConfig, name: str, done: Collection[tuple[str, int]], *, deadline: float
) -> Iterator[dict[str, Any]]:
    """A line for each video of a shape that is not done yet, round by round.

    Args:
        config: The comparison.
        name: Name of the shape.
        done: Contestant and round of the videos that there are.
        deadline: By `time.monotonic`. No round but the first is begun if it would end later, judged by the last one.
    """
    contestants = (YARDSTICK, *config.contestants)
    missing = {number: [each for each in contestants if (each, number) not in done] for number in range(config.repeats)}
    if not any(missing.values()):
        return
    with ExitStack() as stack:
        needed = {each for them in missing.values() for each in them}
        workers = {each: stack.enter_context(Worker(config, name, each)) for each in contestants if each in needed}
        for worker in workers.values():
            worker.finish_loading()
        took = 0.0
        for number in (number for number, them in missing.items() if them):
            if took and time.monotonic() + took > deadline:
                return
            started = time.monotonic()
            for each in _turns(missing[number], number):
                yield {"shape": name, "contestant": each, "round": number, **workers[each].sample()}
            took = time.monotonic() - started


def _turns(contestants: list[str], number: int) -> list[str]:
    """The order of contestants in a round: each round begins with another one."""
    first = number % len(contestants)
    return contestants[first:] + contestants[:first]


class Worker:
    """A process with one contestant, warmed up. It sleeps while others work."""

    def __init__(self, config: PeersConfig, shape: str, contestant: str) -> None:
        self._pool = one_process()
        self._loading: Future[dict[str, int]] = self._pool.submit(_load, config, shape, contestant)
        self._loaded: dict[str, int] = {}

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def finish_loading(self) -> None:
        """Wait until it is warmed up."""
        self._loaded = self._loading.result()

    def sample(self) -> dict[str, Any]:
        """Let it make a video, and watch its memory meanwhile."""
        future, peak = self._pool.submit(_make), 0
        while not future.done():
            peak = max(peak, anonymous_bytes(self._loaded["pid"]))
            wait((future,), timeout=_POLL)
        return future.result() | {"loaded_bytes": self._loaded["bytes"], "peak_bytes": peak}


def make_contestant(config: PeersConfig, shape: PeerShape, name: str) -> Contestant:
    """The contestant of that name; diffusers is imported only for its pipelines."""
    if name in OURS:
        from bdiff_bench.peers.chunk_loop import ChunkLoop

        return ChunkLoop(config, shape, name)
    from bdiff_bench.peers.pipelines import AnyFlow, DiffusionForcing

    return (AnyFlow if name == "anyflow" else DiffusionForcing)(config, shape, name)


def measure_video(contestant: Contestant, config: PeersConfig, shape: PeerShape) -> dict[str, Any]:
    """The line of a video, as plain data."""
    cuda = torch.device(config.device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    video = contestant.sample(config.num_chunks, config.steps_of(shape.steps))
    return {
        "arrivals": list(video.arrivals),
        "flops": video.work.flops,
        "passes": video.work.passes,
        "tokens_read": video.work.tokens_read,
        "shown": video.shown,
        "device_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
    }


def measure_machine(device: str, dtype: torch.dtype, *, seconds: float = 1.0) -> dict[str, float]:
    """Operations a second in large matrix products, and bytes a second in large copies: medians over some seconds."""
    cuda = torch.device(device).type == "cuda"
    side = 8192 if cuda else 2048
    left, right, out = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
    source = torch.rand((2**28 if cuda else 2**25), device=device)
    target = torch.empty_like(source)
    product = _median_seconds(lambda: torch.mm(left, right, out=out), seconds, cuda=cuda)
    copy = _median_seconds(lambda: target.copy_(source), seconds / 3, cuda=cuda)
    return {"flops_per_second": 2 * side**3 / product, "bytes_per_second": 2 * source.nbytes / copy}


def _median_seconds(work: Callable[[], object], seconds: float, *, cuda: bool) -> float:
    synchronize = torch.cuda.synchronize if cuda else (lambda: None)
    work(), synchronize()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = time.perf_counter()
        work(), synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


_HELD: dict[str, Any] = {}  # this process's contestant, and what it makes


def _load(config: PeersConfig, shape_name: str, name: str) -> dict[str, int]:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _HELD.update(config=config, shape=SHAPES[shape_name](), contestant=None)
    if name != YARDSTICK:
        _HELD["contestant"] = make_contestant(config, _HELD["shape"], name)
    give_back_freed()
    loaded = anonymous_bytes()
    if name != YARDSTICK:  # longer than the first window, so that nothing is left to be made for the first time
        _HELD["contestant"].sample(min(config.num_chunks, config.window + 2), _WARM_STEPS)
    return {"pid": os.getpid(), "bytes": loaded}


def _make() -> dict[str, Any]:
    config = _HELD["config"]
    if _HELD["contestant"] is None:
        return measure_machine(config.device, getattr(torch, config.dtype))
    return measure_video(_HELD["contestant"], config, _HELD["shape"])
