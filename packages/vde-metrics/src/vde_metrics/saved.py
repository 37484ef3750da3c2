"""Reports read back from the JSON that they were written to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vde_metrics.report import DriftReport, MetricDrift


def load_reports(path: str | Path) -> list[DriftReport]:
    """The reports in a file that `DriftReport.to_json` or ``vde --json`` wrote: one, or several.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "reports" in found:
            found = found["reports"]
        return [report_from(one) for one in (found if isinstance(found, list) else [found])]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no JSON ({error})") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: is no drift report ({error!r}); expected what `vde --json` writes") from error


def report_from(plain: Mapping[str, Any]) -> DriftReport:
    """The report of which `DriftReport.to_dict` gives these values; thumbnails are not among them."""
    return DriftReport(
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


def _metric(name: str, values: Mapping[str, Any]) -> MetricDrift:
    return MetricDrift(
        name=name,
        settings=str(values["settings"]),
        scores=_scores(values["scores"]),
        vde=float(values["vde"]),  # reads "inf", too
        vde_normalized=float(values["vde_normalized"]),
        slope=float(values["slope"]),
        worst_chunk=values["worst_chunk"],
        models=dict(values["models"]),
    )


def _scores(values: list[Any]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)
