"""Means over videos with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over videos, with a bootstrap interval."""

    mean: float
    """The mean. It is infinite if one of the values is."""
    low: float | None
    """Lower end of the interval; None for a single video or an infinite mean."""
    high: float | None
    """Upper end of the interval; None for a single video or an infinite mean."""
    num_videos: int
    """Number of videos, or of pairs of videos."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrap:
    """Settings of a bootstrap over videos."""

    confidence: float
    """Share of the resampled means that an interval holds."""
    draws: int
    """Number of resamplings."""
    seed: int
    """Seed of the resamplings."""

    def means(self, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " draws"]:
        """Means of the resamplings of some values."""
        random = np.random.default_rng(self.seed)
        picked = random.integers(len(values), size=(self.draws, len(values)))
        found: np.ndarray = values[picked].mean(1)
        return found

    def estimate(self, mean: float, means: np.ndarray, num_videos: int) -> Estimate:
        """The mean with the interval of the resampled means."""
        low = high = None
        if num_videos > 1 and np.isfinite(means).all():
            rest = (1 - self.confidence) / 2
            low, high = (float(end) for end in np.quantile(means, [rest, 1 - rest]))
        return Estimate(mean=mean, low=low, high=high, num_videos=num_videos)

    def mean(self, values: Sequence[float]) -> Estimate:
        """The mean of some values, one per video, with its interval."""
        given = np.array(values, dtype=np.float64)
        return self.estimate(float(given.mean()), self.means(given), len(given))
