"""What a measurement found."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from vde_metrics.drift import Weights
from vde_metrics.stillness import FROZEN_SHARE


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricDrift:
    """Scores and drift of one metric. Chunks are counted from 0."""

    name: str
    settings: str
    """The metric's settings, as it writes itself."""
    scores: tuple[float, ...]
    """m_i of every chunk."""
    vde: float
    """Video Drift Error as published (Eq. 19); it grows with the number of chunks."""
    vde_normalized: float
    """The same divided by the sum of the weights: the weighted mean relative change."""
    slope: float
    """Least-squares change of the score from one chunk to the next: its sign tells fading from growing."""
    worst_chunk: int | None
    """The chunk farthest from the first; None where all score the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """The drift of one video, with what is needed to repeat the measurement."""

    video: str
    fps: float | None
    height: int
    width: int
    chunk_frames: tuple[int, ...]
    """Boundaries of the chunks: 0, ..., the number of frames."""
    weights: Weights
    metrics: tuple[MetricDrift, ...]
    still_pairs: tuple[float, ...]
    """Per chunk, the share of neighbouring frames that show the same picture."""
    protocol: str = "paper"
    """``paper``: the definitions of Eqs. 16-21, not those of the benchmark's released script."""
    source: dict[str, str] = field(default_factory=dict)
    """Codec, pixel format, container and encoder of a file."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that computed the scores."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.chunk_frames[-1]

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return len(self.chunk_frames) - 1

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        """Per-chunk scores by metric."""
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
        """Chunks, counted from 0, in which nothing moves."""
        return tuple(i for i, share in enumerate(self.still_pairs) if share >= FROZEN_SHARE)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing moves in any chunk: such a video scores 0, the best error there is."""
        return len(self.frozen_chunks) == self.num_chunks

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences a reader needs beside the figures."""
        if self.is_frozen:
            return ("The video is frozen: nothing moves, so nothing drifts. Its errors say nothing about quality.",)
        if self.frozen_chunks:
            return (f"Frozen chunks, in which nothing moves: {', '.join(map(str, self.frozen_chunks))}.",)
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite error is the string ``"inf"``."""
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
        """The report as Markdown: errors first, then the scores of every chunk."""
        lines = [f"## {self.video}", "", self.summary, ""]
        lines += [f"**{remark}**\n" for remark in self.remarks]
        lines += _table(
            ["metric", "VDE", "normalised", "slope per chunk", "worst chunk"],
            [
                [
                    metric.name,
                    f"{metric.vde:.4f}",
                    f"{metric.vde_normalized:.4f}",
                    f"{metric.slope:+.4g}",
                    "none" if metric.worst_chunk is None else str(metric.worst_chunk),
                ]
                for metric in self.metrics
            ],
        )
        chunks = [
            [str(i), f"{start}-{end - 1}", *(f"{metric.scores[i]:.6g}" for metric in self.metrics), f"{still:.0%}"]
            for i, (start, end, still) in enumerate(
                zip(self.chunk_frames[:-1], self.chunk_frames[1:], self.still_pairs, strict=True)
            )
        ]
        header = ["chunk", "frames", *(metric.name for metric in self.metrics), "still pairs"]
        return "\n".join([*lines, "", *_table(header, chunks), "", self.provenance, ""])

    def to_html(self) -> str:
        """The report as one self-contained HTML page with a curve per metric."""
        from vde_metrics.page import html_page

        return html_page([self])

    @property
    def summary(self) -> str:
        """One line: size, length, chunks, weights, protocol."""
        length = f"{self.num_frames} frames"
        if self.fps:
            length += f" ({self.num_frames / self.fps:.1f} s at {self.fps:.4g} fps)"
        return (
            f"{self.width}x{self.height}, {length}, {self.num_chunks} chunks, "
            f"{self.weights} weights, protocol {self.protocol}"
        )

    @property
    def provenance(self) -> str:
        """One line: how the file was encoded, the metrics' settings, and the versions that measured it."""
        encoded = ", ".join(f"{key} {value}" for key, value in self.source.items()) or "frames in memory"
        settings = ", ".join(metric.settings for metric in self.metrics)
        versions = ", ".join(f"{key} {value}" for key, value in self.versions.items())
        return f"Source: {encoded}. Metrics: {settings}. Measured with {versions}."


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown that is legible as plain text: first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return ["| " + " | ".join(_pad(row, widths)) + " |" for row in [header, rule, *rows]]


def _pad(row: list[str], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
