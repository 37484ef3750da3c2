"""Errors of true videos with intervals, and how errors rise with planted drift, from the lines of the study."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from bdiff_bench.harness import mean_interval, mean_of_known, plain_figure, rank_correlation
from storyworld import TAKES
from studies.takes.faults import RATES

SPREADS = 2.0
"""An error that planted drift adds is seen if it is this many standard deviations of the errors of true videos."""

Scores = Sequence[float | None]
Lines = Sequence[Mapping[str, Any]]


def drift_error(scores: Scores, *, normalize: bool = True) -> float:
    """The Video Drift Error with linear weights; chunks without a score are left out with their weights.

    It is infinite if the first score is 0 and others are not.
    """
    weighted = [(len(scores) - i, score) for i, score in enumerate(scores) if score is not None]
    (_, first), *others = weighted
    change = math.fsum(weight * abs(score - first) for weight, score in others)
    if not change:
        return 0.0
    total = sum(weight for weight, _ in others) if normalize else 1
    return change / abs(first) / total if first else math.inf


def takes_figures(lines: Lines, *, counts: Sequence[int]) -> dict[str, Any]:
    """Errors of true videos by kind, size, number of chunks and metric, and of planted drift by kind, fault and metric.

    Args:
        lines: The lines of the study.
        counts: Numbers of chunks; planted drift is reported with the first one.
    """
    kinds = [kind for kind in TAKES if any(line["kind"] == kind for line in lines)]
    true = {
        kind: {
            size: {str(count): _true_figures(_chosen(lines, kind, change), count) for count in counts}
            for size, change in (("large", "true"), ("small", "small"))
        }
        for kind in kinds
    }
    planted = {
        kind: {fault: _planted_figures(lines, kind, fault, true[kind]["large"], counts[0]) for fault in RATES}
        for kind in kinds
    }
    return {"true": true, "planted": planted}


def _chosen(lines: Lines, kind: str, change: str, rate: float | None = None) -> list[Mapping[str, Any]]:
    return [
        line
        for line in lines
        if line["kind"] == kind and line["change"] == change and (rate is None or line["rate"] == rate)
    ]


def _true_figures(lines: Lines, count: int) -> dict[str, Any]:
    """Errors by metric: normalised and raw with intervals, and the standard deviation of the normalised ones."""
    found = {}
    for name in lines[0]["scores"][str(count)]:
        scores = [line["scores"][str(count)][name] for line in lines]
        errors, raw = (_finite(drift_error(one, normalize=way) for one in scores) for way in (True, False))
        found[name] = {
            "normalized": _plain(mean_interval(errors)) if errors else None,
            "raw": _plain(mean_interval(raw)) if raw else None,
            "spread": plain_figure(statistics.stdev(errors)) if len(errors) > 1 else None,
            "most": plain_figure(max(errors, default=None)),
            "first_over_later": plain_figure(mean_of_known(first_over_later(one) for one in scores)),
            "videos": len(errors),
        }
    return found


def _planted_figures(lines: Lines, kind: str, fault: str, true: Mapping[str, Any], count: int) -> dict[str, Any]:
    """How the error of each metric rises with the rate of a fault, video by video; the rate 0 is the true video."""
    clean = {line["seed"]: line["scores"][str(count)] for line in _chosen(lines, kind, "true")}
    by_rate = [
        {line["seed"]: line["scores"][str(count)] for line in _chosen(lines, kind, fault, rate)}
        for rate in RATES[fault]
    ]
    seeds = sorted(set(clean).intersection(*by_rate))
    return {name: _answer(name, clean, by_rate, seeds, true[str(count)][name]["spread"]) for name in true[str(count)]}


def _answer(
    name: str,
    clean: Mapping[int, Mapping[str, Scores]],
    by_rate: Sequence[Mapping[int, Mapping[str, Scores]]],
    seeds: Sequence[int],
    spread: float | None,
) -> dict[str, Any]:
    errors = [[drift_error(own[seed][name]) for own in (clean, *by_rate)] for seed in seeds]
    changes = [[score_change(own[seed][name], clean[seed][name]) for own in by_rate] for seed in seeds]
    added = [_finite(one[rate + 1] - one[0] for one in errors) for rate in range(len(by_rate))]
    means = [mean_interval(one) if one else None for one in added]
    return {
        "errors": [plain_figure(mean_of_known(_finite(column))) for column in zip(*errors, strict=True)],
        "added": [None if one is None else _plain(one) for one in means],
        "added_spreads": [None if one is None or not spread else plain_figure(one["mean"] / spread) for one in means],
        "pairs_in_order": plain_figure(mean_of_known(share_in_order(one) for one in errors)),
        "least_spearman": plain_figure(min((rank_correlation(one) or 0.0 for one in errors), default=None)),
        "score_change": [plain_figure(mean_of_known(column)) for column in zip(*changes, strict=True)],
        "score_pairs_in_order": plain_figure(mean_of_known(share_in_order([0.0, *one]) for one in changes)),
        "videos": len(errors),
    }


def first_over_later(scores: Scores) -> float | None:
    """The score of the first chunk, to which errors refer, over the mean of the later ones; None if that is missing."""
    later = mean_of_known(scores[1:])
    return None if scores[0] is None or not later else scores[0] / later


def share_in_order(values: Sequence[float | None]) -> float | None:
    """The share of neighbours of which the later one is larger; None if a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(after > before for before, after in pairwise(known)) / (len(known) - 1)


def score_change(faulty: Scores, clean: Scores) -> float | None:
    """Mean relative change of the chunk scores against the same chunks of the true video; None where all are missing.

    Unlike the error it leaves out how the true video changes.
    """
    return mean_of_known(
        abs(after - before) / abs(before)
        for after, before in zip(faulty, clean, strict=True)
        if after is not None and before is not None and before != 0
    )


def seen_from(answer: Mapping[str, Any], rates: Sequence[float]) -> float | None:
    """The smallest rate from which on the added error is seen, see `SPREADS`; None if the largest is not."""
    found = None
    for rate, size in zip(reversed(rates), reversed(answer["added_spreads"]), strict=True):
        if size is None or size < SPREADS:
            break
        found = rate
    return found


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _plain(figure: Mapping[str, float]) -> dict[str, float | None]:
    return {key: plain_figure(value) for key, value in figure.items()}
