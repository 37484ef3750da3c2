"""A self-contained HTML page with one chart per metric and a curve per video."""

import math
from collections.abc import Sequence
from html import escape

from vde_metrics.report import DriftReport, figure, require_comparable

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 32
NUM_COLOURS = 6
DASHES = ("", "6 3", "2 3")

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --faint: #767676; --rule: #dddddd; --paper: #ffffff;
  --c0: #1f6fb4; --c1: #c4501b; --c2: #2a8a4a; --c3: #8a4fb0; --c4: #a07800; --c5: #b03a68; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --faint: #a0a0a0; --rule: #3c3c3c; --paper: #181818;
  --c0: #6cb0ea; --c1: #f0925f; --c2: #6cc98a; --c3: #c49ae2; --c4: #dbb84a; --c5: #ea86ac; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 760px;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--rule); text-align: right; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--faint); }
.rule { stroke: var(--rule); } .curve { fill: none; stroke-width: 2; } .first { stroke-dasharray: 3 4; opacity: .6; }
.remark { border-left: 4px solid var(--c1); padding-left: .75rem; } .small { color: var(--faint); font-size: 13px; }
.key { display: inline-block; width: 1.5em; height: 3px; vertical-align: middle; margin-right: .4em; }
""".strip()


def html_page(reports: Sequence[DriftReport]) -> str:
    """One page for one or several videos: a chart per metric with a curve per video, and all figures.

    The page needs no network and no script. Curves are the chunk scores; a dashed line is the score of a video's first
    chunk, from which its drift is measured. Reports that were measured with different models or settings are refused.
    """
    if not reports:
        raise ValueError("reports is empty; give at least one DriftReport")
    require_comparable(reports)
    title = f"Drift of {reports[0].video}" if len(reports) == 1 else f"Drift of {len(reports)} videos"
    names = list(dict.fromkeys(metric.name for report in reports for metric in report.metrics))
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _legend(reports) if len(reports) > 1 else f"<p>{escape(reports[0].summary)}</p>",
        *(f'<p class="remark">{escape(_remark(report, reports))}</p>' for report in reports if report.remarks),
        _errors(reports),
    ]
    for name in names:
        curves = [(i, report.scores[name]) for i, report in enumerate(reports) if name in report.scores]
        parts += [f"<h2>{escape(name)}</h2>", _chart(name, curves)]
    parts += [_scores(report) for report in reports]
    return "\n".join([*parts, "</body></html>", ""])


def _remark(report: DriftReport, reports: Sequence[DriftReport]) -> str:
    text = " ".join(report.remarks)
    return text if len(reports) == 1 else f"{report.video}: {text}"


def _legend(reports: Sequence[DriftReport]) -> str:
    rows = [
        f'<div><span class="key" style="background: var(--c{i % NUM_COLOURS})"></span>'
        f"{escape(report.video)} <span class='small'>{escape(report.summary)}</span></div>"
        for i, report in enumerate(reports)
    ]
    return "\n".join(rows)


def _errors(reports: Sequence[DriftReport]) -> str:
    rows = [
        [
            *([report.video] if len(reports) > 1 else []),
            metric.name,
            f"{metric.vde:.4f}",
            f"{metric.vde_normalized:.4f}",
            f"{metric.slope:+.4g}",
            "none" if metric.worst_chunk is None else str(metric.worst_chunk),
        ]
        for report in reports
        for metric in report.metrics
    ]
    header = ["metric", "VDE", "normalised", "slope per chunk", "worst chunk"]
    return _table([*(["video"] if len(reports) > 1 else []), *header], rows)


def _scores(report: DriftReport) -> str:
    rows = [
        [
            str(i),
            f"{start}-{end - 1}",
            *(figure(metric.scores[i], ".6g") for metric in report.metrics),
            figure(still, ".0%"),
        ]
        for i, (start, end, still) in enumerate(
            zip(report.chunk_frames[:-1], report.chunk_frames[1:], report.still_pairs, strict=True)
        )
    ]
    header = ["chunk", "frames", *(metric.name for metric in report.metrics), "still pairs"]
    return (
        f"<h2>Scores of {escape(report.video)}</h2>\n{_table(header, rows)}\n"
        f'<p class="small">{escape(report.provenance)}</p>'
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _chart(name: str, curves: Sequence[tuple[int, Sequence[float | None]]]) -> str:
    """Scores against chunk index; the axis shows the scores' own range, not zero. Curves skip chunks without score."""
    most = max(len(scores) for _, scores in curves)
    known = [score for _, scores in curves for score in scores if score is not None]
    ticks = nice_ticks(min(known), max(known))
    low, high = ticks[0], ticks[-1]

    def x(chunk: int) -> float:
        return LEFT + chunk / (most - 1) * (WIDTH - LEFT - RIGHT)

    def y(score: float) -> float:
        return TOP + (high - score) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)} of every chunk">']
    for tick in ticks:
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.6g}</text>'
        )
    step = max(1, math.ceil(most / 20))
    parts.append(f'<text x="{LEFT - 20}" y="{HEIGHT - 12}" text-anchor="end">chunk</text>')
    parts += [
        f'<text x="{x(chunk):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{chunk}</text>'
        for chunk in range(0, most, step)
    ]
    for number, scores in curves:
        stroke = f'style="stroke: var(--c{number % NUM_COLOURS})"'
        dash = f' stroke-dasharray="{DASHES[number // NUM_COLOURS % len(DASHES)]}"' if number >= NUM_COLOURS else ""
        heights = [(i, y(score)) for i, score in enumerate(scores) if score is not None]
        points = " ".join(f"{x(i):.1f},{height:.1f}" for i, height in heights)
        first = f"{heights[0][1]:.1f}"
        parts.append(
            f'<line class="first" {stroke} x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{first}" y2="{first}"/>'
            f'<polyline class="curve" {stroke}{dash} points="{points}"/>'
        )
    return "\n".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to eight round values that enclose the range, wide enough to be told apart in six digits."""
    span = max(high - low, 1e-4 * max(abs(low), abs(high)))
    if span < 1e-100:
        span = 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor * 4.5 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    return [i * step for i in range(first, last + 1)]
