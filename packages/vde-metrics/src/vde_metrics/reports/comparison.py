"""Comparing models by the drift of their videos."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np

from vde_metrics.reports.bootstrap import Bootstrap, Estimate
from vde_metrics.reports.report import DriftReport, markdown_table, require_comparable

ErrorKind = Literal["vde_normalized", "vde"]
DRAWS = 10_000
CONFIDENCE = 0.95
FEW = 10
"""With fewer videos than this, bootstrap intervals are too narrow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How much more a model drifts than the first one."""

    label: str
    """Label of the model."""
    estimate: Estimate
    """Its mean error minus that of the first model."""
    is_paired: bool
    """Whether videos of the same name were compared one by one, which gives a narrower interval."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval does not contain 0."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and (low > 0 or high < 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricComparison:
    """All models compared by one metric."""

    metric: str
    """Name of the metric."""
    groups: dict[str, Estimate]
    """Mean error of each model, by label."""
    differences: tuple[Difference, ...]
    """Every other model compared with the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Models compared by the drift of their videos."""

    error: ErrorKind
    """Which error was averaged."""
    metrics: tuple[MetricComparison, ...]
    """One comparison per metric."""
    frozen: dict[str, int]
    """How many videos of each model are frozen. Their errors are small because nothing moves."""
    settings: str
    """A sentence about the means and intervals."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that a reader needs beside the table."""
        return tuple(
            f"Frozen videos of {label}, in which nothing moves: {count}. Their errors count in "
            "the means, but are 0, or the noise of compression, and say nothing about quality."
            for label, count in self.frozen.items()
            if count
        )

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table, with one row per metric."""
        labels = list(self.frozen)
        header = ["metric", *labels, *(f"{label} minus {labels[0]}" for label in labels[1:])]
        rows = [
            [one.metric, *(str(one.groups[label]) if label in one.groups else "-" for label in labels)]
            + [_difference(one, label) for label in labels[1:]]
            for one in self.metrics
        ]
        return header, rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. An infinite mean is the string ``"inf"``."""
        found = asdict(self)
        for metric in found["metrics"]:
            for estimate in [*metric["groups"].values(), *(one["estimate"] for one in metric["differences"])]:
                estimate["mean"] = estimate["mean"] if math.isfinite(estimate["mean"]) else str(estimate["mean"])
        return found

    def to_markdown(self) -> str:
        """The comparison as Markdown: a table with one row per metric."""
        remarks = [f"**{remark}**\n" for remark in self.remarks]
        return "\n".join(["## Comparison", "", self.settings, "", *remarks, *markdown_table(*self.rows()), ""])


def compare(
    groups: Mapping[str, Sequence[DriftReport]],
    *,
    error: ErrorKind = "vde_normalized",
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare models by the mean errors of their videos, with bootstrap intervals over videos.

    Videos of two models are paired if they have the same name, without folder and suffix. This is so for videos of the
    same prompts. If there are pairs, the difference is the mean over pairs. Otherwise it is the difference of the means
    of all videos.

    Args:
        groups: reports by the label of the model. The other models are compared with the first one.
        error: which error to average. The published error grows with the number of chunks, so it needs the same
            number in all reports.
        confidence: share of the resampled means that an interval holds.
        draws: number of resamplings.
        seed: seed of the resamplings.

    Raises:
        ValueError: if there are fewer than two models, if a model has no videos, or if the scores do not compare.
    """
    if len(groups) < 2 or not all(groups.values()):
        raise ValueError(f"groups is { ({k: len(v) for k, v in groups.items()}) }; give two or more models with videos")
    reports = [report for group in groups.values() for report in group]
    require_comparable(reports)
    _check_errors(reports, error)
    names = list(dict.fromkeys(metric.name for report in reports for metric in report.metrics))
    bootstrap = Bootstrap(confidence=confidence, draws=draws, seed=seed)
    kind = "normalised error" if error == "vde_normalized" else "published error"
    return Comparison(
        error=error,
        metrics=tuple(_compare_metric(name, groups, error, bootstrap) for name in names),
        frozen={label: sum(report.is_frozen for report in group) for label, group in groups.items()},
        settings=f"Mean {kind} over "
        + ", ".join(f"{len(group)} videos of {label}" for label, group in groups.items())
        + f"; in brackets the {confidence:.0%} interval of {draws} bootstrap draws over videos."
        + (" Of so few videos, intervals come out too narrow." if min(map(len, groups.values())) < FEW else ""),
    )


def _check_errors(reports: Sequence[DriftReport], error: ErrorKind) -> None:
    for report in reports[1:]:
        first = reports[0]
        if report.weights != first.weights:
            raise ValueError(
                f"{first.video} has {first.weights} weights and {report.video} {report.weights}; measure both with one"
            )
        if error == "vde" and report.num_chunks != first.num_chunks:
            raise ValueError(
                f"{first.video} has {first.num_chunks} chunks and {report.video} {report.num_chunks}; the published "
                "error grows with their number: measure both with one, or compare the normalised errors in Python"
            )


def _compare_metric(
    name: str, groups: Mapping[str, Sequence[DriftReport]], error: ErrorKind, bootstrap: Bootstrap
) -> MetricComparison:
    errors = {label: _errors(name, group, error) for label, group in groups.items()}
    measured = {label: found for label, found in errors.items() if found}
    first, *others = measured
    return MetricComparison(
        metric=name,
        groups={label: bootstrap.mean([value for _, value in found]) for label, found in measured.items()},
        differences=tuple(_against(first, label, measured, bootstrap) for label in others),
    )


def _errors(name: str, group: Sequence[DriftReport], error: ErrorKind) -> list[tuple[str, float]]:
    """Name and error of every video that has the metric."""
    return [
        (PurePath(report.video).stem, getattr(metric, error))
        for report in group
        for metric in report.metrics
        if metric.name == name
    ]


def _against(
    first: str, label: str, errors: Mapping[str, Sequence[tuple[str, float]]], bootstrap: Bootstrap
) -> Difference:
    """Compare one model with the first: by pairs of videos if there are any, otherwise by the means."""
    ours, theirs = dict(errors[first]), dict(errors[label])
    unique = len(ours) == len(errors[first]) and len(theirs) == len(errors[label])
    shared = [name for name in ours if name in theirs] if unique else []
    finite = [name for name in shared if math.isfinite(ours[name]) and math.isfinite(theirs[name])]
    if len(finite) > 1 and len(finite) == len(shared):
        pairs = [theirs[name] - ours[name] for name in shared]
        return Difference(label=label, estimate=bootstrap.mean(pairs), is_paired=True)
    left, right = (np.array([value for _, value in errors[one]], dtype=np.float64) for one in (first, label))
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        mean = float("nan") if left.sum() == right.sum() else float(right.sum() - left.sum())
        return Difference(
            label=label,
            estimate=Estimate(mean=mean, low=None, high=None, num_videos=len(right)),
            is_paired=False,
        )
    moved = Bootstrap(confidence=bootstrap.confidence, draws=bootstrap.draws, seed=bootstrap.seed + 1)
    means = moved.means(right) - bootstrap.means(left)
    count = min(len(left), len(right))
    return Difference(
        label=label, estimate=bootstrap.estimate(float(right.mean() - left.mean()), means, count), is_paired=False
    )


def _difference(metric: MetricComparison, label: str) -> str:
    for one in metric.differences:
        if one.label == label:
            return f"{one.estimate}{' paired' if one.is_paired else ''}{' *' if one.is_clear else ''}"
    return "-"
