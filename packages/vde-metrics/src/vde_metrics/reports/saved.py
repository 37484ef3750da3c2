"""Reading saved reports."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from vde_metrics.drift import Protocol, Weights
from vde_metrics.reports.report import DriftReport, MetricDrift


def load_reports(path: str | Path) -> list[DriftReport]:
    """Read the reports in a file that `DriftReport.to_json` or ``vde --json`` wrote.

    Returns:
        One report, or several if the file holds several.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "reports" in found:
            found = found["reports"]
        reports = [report_from(one) for one in (found if isinstance(found, list) else [found])]
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); expected what `vde --json` writes") from error
    except KeyError as error:
        raise ValueError(
            f"{path}: is not a drift report, it has no {error}; expected what `vde --json` writes"
        ) from error
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: is not a drift report; expected what `vde --json` writes") from error
    if not reports:
        raise ValueError(f"{path}: holds no reports; expected what `vde --json` writes")
    return reports


def report_from(plain: Mapping[str, Any]) -> DriftReport:
    """The report from the values of `DriftReport.to_dict`. It has no thumbnails, because JSON does not hold them."""
    report = DriftReport(
        video=str(plain["video"]),
        fps=None if plain["fps"] is None else float(plain["fps"]),
        height=int(plain["height"]),
        width=int(plain["width"]),
        chunk_frames=tuple(int(boundary) for boundary in plain["chunk_frames"]),
        weights=plain["weights"],
        metrics=tuple(_metric(name, values) for name, values in plain["metrics"].items()),
        still_pairs=_scores(plain["still_pairs"]),
        protocol=str(plain["protocol"]),
        source=dict(plain["source"]),
        versions=dict(plain["versions"]),
    )
    _check(report)
    return report


def _check(report: DriftReport) -> None:
    """Raise ValueError if no measurement can give these values. Tables and charts rely on them."""
    if report.num_chunks < 2 or list(report.chunk_frames) != sorted(set(report.chunk_frames)):
        raise ValueError(f"chunk_frames is {report.chunk_frames}")
    if report.weights not in get_args(Weights) or report.protocol not in get_args(Protocol):
        raise ValueError(f"weights is {report.weights!r} and protocol {report.protocol!r}")
    if not report.metrics:
        raise ValueError("metrics is empty")
    if len(report.still_pairs) != report.num_chunks:
        raise ValueError(f"still_pairs has {len(report.still_pairs)} values for {report.num_chunks} chunks")
    for metric in report.metrics:
        known = [score for score in metric.scores if score is not None]
        if len(metric.scores) != report.num_chunks or not known or not all(map(math.isfinite, known)):
            raise ValueError(f"scores of {metric.name} are {metric.scores} for {report.num_chunks} chunks")
        if any(map(math.isnan, (metric.vde, metric.vde_normalized, metric.slope))):
            raise ValueError(f"{metric.name} has an error that is not a number")
        if metric.worst_chunk not in (None, *range(report.num_chunks)):
            raise ValueError(f"worst_chunk of {metric.name} is {metric.worst_chunk!r}")


def _metric(name: str, values: Mapping[str, Any]) -> MetricDrift:
    return MetricDrift(
        name=name,
        settings=str(values["settings"]),
        scores=_scores(values["scores"]),
        vde=float(values["vde"]),  # also reads "inf"
        vde_normalized=float(values["vde_normalized"]),
        slope=float(values["slope"]),
        worst_chunk=values["worst_chunk"],
        models=dict(values["models"]),
    )


def _scores(values: list[Any]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)
