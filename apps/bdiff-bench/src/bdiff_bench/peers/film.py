"""What is noted of one film: when each chunk was there, and what work that took."""

import time
from dataclasses import dataclass
from typing import Protocol

import torch

from bdiff_bench.peers.work import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """One film that was made."""

    arrivals: tuple[float, ...]
    """Seconds from the start until each chunk's latents were there."""
    work: Work
    shown: float
    """Tokens of the past that the last chunk saw, mean over layers."""


class Contestant(Protocol):
    """Who makes films."""

    def film(self, num_chunks: int, num_steps: int) -> Film:
        """Make one, of latents."""
        ...


class Clock:
    """When chunks were there, counted from now."""

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self.arrivals: list[float] = []
        self._started = self._now()

    def note(self, done: int) -> None:
        """So many chunks are there now."""
        if done > len(self.arrivals):
            self.arrivals += [self._now() - self._started] * (done - len(self.arrivals))

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()
