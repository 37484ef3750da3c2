"""Video Drift Error of a sequence of chunk scores (Eqs. 17-19)."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

Weights = Literal["linear", "log"]


def vde(scores: Iterable[float], weights: Weights = "linear", *, normalize: bool = False) -> float:
    """Video Drift Error: weighted sum of the relative changes against the first chunk (Eqs. 17-19).

    ``sum over i = 2..N of w_i * |m_i - m_1| / |m_1|``. The paper divides by m_1; the absolute value keeps the error
    positive for scores that may be negative. Early chunks weigh most, and ``log`` gives the last chunk weight 0.

    Args:
        scores: one score per chunk, in order.
        weights: ``linear`` is w_i = N - i + 1, ``log`` its natural logarithm.
        normalize: divide by the sum of the weights, so that videos with different numbers of chunks compare.

    Returns:
        0 if all scores are equal; otherwise, if the first score is 0, infinity (with a ``RuntimeWarning``).
    """
    return named_vde(scores, weights, normalize=normalize, name="vde")


def named_vde(scores: Iterable[float], weights: Weights, *, normalize: bool, name: str) -> float:
    """``vde`` whose errors and warnings begin with the metric's name."""
    values = _checked(scores, name)
    factors = chunk_weights(len(values), weights)
    first = values[0]
    if all(value == first for value in values):
        return 0.0
    total = sum(factors)
    if normalize and total == 0:
        raise ValueError(
            f"{name}: log weights of {len(values)} scores are all 0, so a normalised error has no meaning; "
            "use weights='linear' or at least 3 chunks"
        )
    if first == 0:
        warnings.warn(
            f"{name}: the first chunk scores 0 and others do not, so their relative change is infinite",
            RuntimeWarning,
            stacklevel=3,
        )
        return math.inf
    error = sum(w * abs(value - first) / abs(first) for w, value in zip(factors, values[1:], strict=True))
    return error / total if normalize else error


def chunk_weights(num_chunks: int, weights: Weights) -> list[float]:
    """w_i of Eqs. 18-19 for i = 2..N."""
    if weights not in ("linear", "log"):
        raise ValueError(f"weights is {weights!r}; expected 'linear' or 'log'")
    linear = [float(num_chunks - i + 1) for i in range(2, num_chunks + 1)]
    return linear if weights == "linear" else [math.log(w) for w in linear]


def slope(scores: Sequence[float]) -> float:
    """Least-squares change of the score from one chunk to the next."""
    centre = (len(scores) - 1) / 2
    spread = sum((i - centre) ** 2 for i in range(len(scores)))
    return sum((i - centre) * score for i, score in enumerate(scores)) / spread if spread else 0.0


def worst_chunk(scores: Sequence[float]) -> int | None:
    """Index from 0 of the chunk farthest from the first one; None where all score the same."""
    distances = [abs(score - scores[0]) for score in scores]
    return distances.index(max(distances)) if any(distances) else None


def _checked(scores: Iterable[float], name: str) -> list[float]:
    values = [float(score) for score in scores]
    if not values:
        raise ValueError(f"{name}: no scores were given; expected one score per chunk")
    for i, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(f"{name}: the score of chunk {i} is {value}; expected a finite number")
    return values
