"""The result of a measurement."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from vde_metrics.drift import Weights
from vde_metrics.metrics.stillness import FROZEN_SHARE


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricDrift:
    """Scores and drift by one metric. Chunks are counted from 0."""

    name: str
    """Name of the metric."""
    settings: str
    """The metric's class and settings."""
    scores: tuple[float | None, ...]
    """Score m_i of every chunk; None if a chunk had nothing to measure, for example no subject."""
    vde: float
    """Video Drift Error as published (Eq. 19). It grows with the number of chunks."""
    vde_normalized: float
    """The error divided by the sum of the weights: the weighted mean relative change."""
    slope: float
    """Least-squares change of the score per chunk. It is negative if the score falls."""
    worst_chunk: int | None
    """The chunk whose score is farthest from the first; None if all scores are equal."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Names of the models behind the metric, by role: encoder, predictor, segmenter, optical flow."""

    @property
    def unscored_chunks(self) -> tuple[int, ...]:
        """Chunks that had nothing to measure, counted from 0."""
        return tuple(i for i, score in enumerate(self.scores) if score is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """The drift of one video, with the settings and versions that it was measured with."""

    video: str
    """Name of the video."""
    fps: float | None
    """Frames per second, if known."""
    height: int
    """Height of the frames in pixels."""
    width: int
    """Width of the frames in pixels."""
    chunk_frames: tuple[int, ...]
    """Boundaries of the chunks: 0, the first frame of every later chunk, the end of the last one."""
    weights: Weights
    """Weights of Eq. 19: ``linear`` or ``log``."""
    metrics: tuple[MetricDrift, ...]
    """Scores and drift by every metric."""
    still_pairs: tuple[float | None, ...]
    """Share of neighbouring frames in each chunk that show the same picture; None for a first chunk of one frame."""
    protocol: str = "paper"
    """``paper``: the definitions of Eqs. 16-25. ``released``: those of the benchmark's script."""
    source: dict[str, str] = field(default_factory=dict)
    """Codec, pixel format, container and encoder of a file."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that computed the scores."""
    thumbnails: tuple[bytes, ...] = field(default=(), repr=False, compare=False)
    """A JPEG of the middle frame of every chunk, if asked for. The HTML page shows them."""

    @property
    def num_frames(self) -> int:
        """Number of frames in all chunks. With the released protocol, up to N - 1 frames at the end belong to none."""
        return self.chunk_frames[-1]

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return len(self.chunk_frames) - 1

    @property
    def scores(self) -> dict[str, tuple[float | None, ...]]:
        """Scores of all chunks, by metric."""
        return {metric.name: metric.scores for metric in self.metrics}

    @property
    def vde(self) -> dict[str, float]:
        """Video Drift Error by metric, as published."""
        return {metric.name: metric.vde for metric in self.metrics}

    @property
    def vde_normalized(self) -> dict[str, float]:
        """Normalised Video Drift Error by metric."""
        return {metric.name: metric.vde_normalized for metric in self.metrics}

    @property
    def frozen_chunks(self) -> tuple[int, ...]:
        """Chunks in which nothing moves, counted from 0."""
        return tuple(i for i, share in enumerate(self.still_pairs) if share is not None and share >= FROZEN_SHARE)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing moves in any chunk. The error of such a video is 0, the best value, but says nothing."""
        known = sum(share is not None for share in self.still_pairs)
        return len(self.frozen_chunks) == known > 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that a reader needs beside the tables."""
        found = []
        if self.is_frozen:
            found.append("The video is frozen: nothing moves. Its errors, 0 or the noise of compression, are no merit.")
        elif self.frozen_chunks:
            found.append(f"Frozen chunks, in which nothing moves: {_listed(self.frozen_chunks)}.")
        for metric in self.metrics:
            if missing := metric.unscored_chunks:
                first = next(i for i, score in enumerate(metric.scores) if score is not None)
                against = f"; its drift is measured against chunk {first}" if first else ""
                found.append(f"Chunks in which {metric.name} found nothing to measure: {_listed(missing)}{against}.")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. An infinite error is the string ``"inf"``."""
        return {
            "protocol": self.protocol,
            "video": self.video,
            "fps": self.fps,
            "num_frames": self.num_frames,
            "height": self.height,
            "width": self.width,
            "num_chunks": self.num_chunks,
            "chunk_frames": list(self.chunk_frames),
            "weights": self.weights,
            "metrics": {
                metric.name: {
                    "settings": metric.settings,
                    "models": dict(metric.models),
                    "scores": list(metric.scores),
                    "vde": _plain(metric.vde),
                    "vde_normalized": _plain(metric.vde_normalized),
                    "slope": metric.slope,
                    "worst_chunk": metric.worst_chunk,
                }
                for metric in self.metrics
            },
            "still_pairs": list(self.still_pairs),
            "is_frozen": self.is_frozen,
            "remarks": list(self.remarks),
            "source": self.source,
            "versions": self.versions,
        }

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_markdown(self) -> str:
        """The report as Markdown: the errors, then the scores of every chunk."""
        lines = [f"## {self.video}", "", self.summary, "", self.freeze_check, ""]
        lines += [f"**{remark}**\n" for remark in self.remarks]
        lines += markdown_table(*error_table(self))
        return "\n".join([*lines, "", *markdown_table(*chunk_table(self)), "", self.provenance, ""])

    @property
    def summary(self) -> str:
        """One line with size, length, chunks, weights and protocol."""
        length = f"{self.num_frames} frames"
        if self.fps:
            length += f" ({self.num_frames / self.fps:.1f} s at {self.fps:.4g} fps)"
        return (
            f"{self.width}x{self.height}, {length}, {self.num_chunks} chunks, "
            f"{self.weights} weights, protocol {self.protocol}"
        )

    @property
    def freeze_check(self) -> str:
        """One line that says how much of the video stands still."""
        known = [share for share in self.still_pairs if share is not None]
        share = sum(known) / len(known) if known else 0.0
        count = len(self.frozen_chunks)
        found = f"{count} of {self.num_chunks} chunks are frozen" if count else "no chunk is frozen"
        return f"Freeze check: {found}; {share:.0%} of neighbouring frames show the same picture."

    @property
    def provenance(self) -> str:
        """One line with the encoding of the file, the settings of the metrics, and the versions of the packages."""
        encoded = ", ".join(f"{key} {value}" for key, value in self.source.items()) or "frames in memory"
        settings = ", ".join(metric.settings for metric in self.metrics)
        versions = ", ".join(f"{key} {value}" for key, value in self.versions.items())
        return f"Source: {encoded}. Metrics: {settings}. Measured with {versions}."


def require_comparable(reports: Sequence[DriftReport]) -> None:
    """Raise ValueError if the scores of some reports do not compare.

    They do not compare if the protocols, the models or the settings of a metric differ.

    Raises:
        ValueError: the message names the metric, the two videos and the difference.
    """
    for report in reports[1:]:
        if report.protocol != reports[0].protocol:
            raise ValueError(
                f"{reports[0].video} was measured by protocol {reports[0].protocol} and {report.video} by "
                f"{report.protocol}; their figures do not compare"
            )
    seen: dict[str, tuple[str, MetricDrift]] = {}
    for report in reports:
        for metric in report.metrics:
            video, first = seen.setdefault(metric.name, (report.video, metric))
            if (metric.settings, metric.models) == (first.settings, first.models):
                continue
            roles = [
                role for role in {**first.models, **metric.models} if metric.models.get(role) != first.models.get(role)
            ]
            ours, theirs = (
                (", ".join(f"{role} {found.models.get(role, 'none')}" for role in roles) or found.settings)
                for found in (first, metric)
            )
            raise ValueError(
                f"{metric.name} of {video} was measured with {ours}, of {report.video} with {theirs}; such figures do "
                "not compare: measure both alike"
            )


def error_table(report: DriftReport) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of errors, with one row per metric."""
    rows = [
        [
            metric.name,
            f"{metric.vde:.4f}",
            f"{metric.vde_normalized:.4f}",
            f"{metric.slope:+.4g}",
            "none" if metric.worst_chunk is None else str(metric.worst_chunk),
        ]
        for metric in report.metrics
    ]
    return ["metric", "VDE", "normalised", "slope per chunk", "worst chunk"], rows


def chunk_table(report: DriftReport) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of scores, with one row per chunk."""
    ranges = [f"{start}-{end - 1}" for start, end in pairwise(report.chunk_frames)]
    columns = [*([_figure(score, ".6g") for score in metric.scores] for metric in report.metrics)]
    still = [_figure(share, ".0%") for share in report.still_pairs]
    rows = [[str(i), *row] for i, row in enumerate(zip(ranges, *columns, still, strict=True))]
    return ["chunk", "frames", *(metric.name for metric in report.metrics), "still pairs"], rows


def _listed(chunks: Sequence[int]) -> str:
    return ", ".join(map(str, chunks))


def _figure(value: float | None, form: str) -> str:
    """The number as text; a dash if there is none."""
    return "-" if value is None else format(value, form)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return ["| " + " | ".join(_pad(row, widths)) + " |" for row in [header, rule, *rows]]


def _pad(row: list[str], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
