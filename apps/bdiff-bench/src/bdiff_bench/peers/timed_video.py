"""What is noted of one video: when each chunk was finished, and how much work that took."""

import time
from dataclasses import dataclass
from typing import Protocol

import torch

from bdiff_bench.peers.workload import Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedVideo:
    """One video that was made."""

    arrivals: tuple[float, ...]
    """Seconds from the start until each chunk's latents were finished."""
    work: Workload
    shown: float
    """Tokens of the past that the last chunk saw, mean over layers."""


class Contestant(Protocol):
    """A way to make videos that is timed."""

    def sample(self, num_chunks: int, num_steps: int) -> TimedVideo:
        """Make one video of latents."""
        ...


class ArrivalClock:
    """Notes when chunks are finished, in seconds since it was made."""

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self.arrivals: list[float] = []
        self._started = self._now()

    def note(self, done: int) -> None:
        """Note that so many chunks are finished now."""
        if done > len(self.arrivals):
            self.arrivals += [self._now() - self._started] * (done - len(self.arrivals))

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()
