"""HTML pages of reports and comparisons."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from vde_metrics.reports.chart import NUM_COLOURS, Curve, chart
from vde_metrics.reports.comparison import Comparison
from vde_metrics.reports.report import DriftReport, chunk_table, error_table, require_comparable

MANY = 8
"""With this many videos or more, the tables of a page are folded."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --faint: #6b6b6b; --rule: #dddddd; --paper: #ffffff;
  --c0: #1f6fb4; --c1: #c4501b; --c2: #2a8a4a; --c3: #8a4fb0; --c4: #a07800; --c5: #b03a68; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --faint: #a0a0a0; --rule: #3c3c3c; --paper: #181818;
  --c0: #6cb0ea; --c1: #f0925f; --c2: #6cc98a; --c3: #c49ae2; --c4: #dbb84a; --c5: #ea86ac; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 860px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .5rem; } h2 { margin: 2rem 0 .25rem; font-size: 1.15rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--rule); text-align: right; }
th { font-weight: 600; vertical-align: bottom; } td { font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--faint); }
.rule { stroke: var(--rule); } .curve { fill: none; stroke-width: 2; } .first { stroke-dasharray: 3 4; opacity: .6; }
.faint { stroke-width: 1; opacity: .35; }
.remark { border-left: 4px solid var(--c1); padding-left: .75rem; } .small { color: var(--faint); font-size: 13px; }
.key { display: inline-block; width: 1.5em; height: 3px; vertical-align: middle; margin-right: .4em; }
.strip { display: flex; gap: 2px; margin: .5rem 0 1rem; overflow-x: auto; }
.strip figure { margin: 0; flex: 1 1 0; min-width: 44px; max-width: 112px; }
.strip img { width: 100%; display: block; border-radius: 2px; }
.strip figcaption { font-size: 11px; color: var(--faint); text-align: center; line-height: 1.6; }
.worst img { outline: 2px solid var(--c1); outline-offset: -2px; }
summary { cursor: pointer; color: var(--faint); }
""".strip()


def html_page(reports: Sequence[DriftReport], *, comparison: Comparison | None = None) -> str:
    """A self-contained HTML page of one report or several: charts, thumbnails and all numbers.

    There is one chart per metric, with one curve per video. A curve shows the scores of the chunks. A dashed line shows
    the score of the first chunk, from which the drift is measured. The page needs no network and no script.

    Args:
        reports: one report, or several. For pictures, measure with ``thumbnails=True``.
        comparison: a comparison of these videos, shown first.

    Raises:
        ValueError: if there are no reports, or if they were measured with different models or settings.
    """
    if not reports:
        raise ValueError("reports is empty; give at least one DriftReport")
    require_comparable(reports)
    title = f"Drift of {reports[0].video}" if len(reports) == 1 else f"Drift of {len(reports)} videos"
    parts = [
        f"<p>{escape(reports[0].summary)}</p>" if len(reports) == 1 else _legend(reports),
        *([] if comparison is None else [_comparison(comparison)]),
        *(f'<p class="remark">{escape(_remark(report, reports))}</p>' for report in reports if report.remarks),
        _errors(reports),
        *([] if len(reports) > 1 else [f'<p class="small">{escape(reports[0].freeze_check)}</p>']),
        *_strips(reports),
        *_charts(reports, [Curve(label=r.video, scores=(), number=i) for i, r in enumerate(reports)]),
        *(_scores(report, folded=len(reports) >= MANY) for report in reports),
    ]
    return _document(title, parts)


def comparison_page(groups: Mapping[str, Sequence[DriftReport]], comparison: Comparison) -> str:
    """An HTML page that compares models: their mean errors, and charts with one colour per model.

    Thin curves are videos. Thick curves are the mean over the videos of a model.

    Args:
        groups: reports by the label of the model.
        comparison: the comparison of the same groups, made by `compare`.

    Raises:
        ValueError: if the reports were measured with different models or settings.
    """
    reports = [report for group in groups.values() for report in group]
    require_comparable(reports)
    kinds = [
        Curve(label=f"{label}: {report.video}", scores=(), number=i, is_faint=True)
        for i, (label, group) in enumerate(groups.items())
        for report in group
    ]
    keys = [f"{_key(i)}{escape(label)}, {len(group)} videos" for i, (label, group) in enumerate(groups.items())]
    parts = [
        "".join(f"<div>{key}</div>" for key in keys),
        _comparison(comparison),
        *_charts(reports, kinds, groups),
        "<h2>Every video</h2>",
        _errors(reports),
        *_strips(reports[: 4 * MANY]),
        *(_scores(report, folded=True) for report in reports),
    ]
    return _document(f"Drift of {' and '.join(groups) if len(groups) == 2 else f'{len(groups)} models'}", parts)


def _document(title: str, parts: Sequence[str]) -> str:
    head = (
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head><body>"
    )
    return "\n".join(["<!doctype html>", head, f"<h1>{escape(title)}</h1>", *parts, "</body></html>", ""])


def _comparison(comparison: Comparison) -> str:
    marks = "" if len(comparison.frozen) < 2 else " A star marks a difference whose interval leaves out 0."
    remarks = "".join(f'<p class="remark">{escape(remark)}</p>' for remark in comparison.remarks)
    text = escape(comparison.settings + marks)
    return f'<h2>Comparison</h2>\n<p class="small">{text}</p>\n{remarks}{_table(*comparison.rows())}'


def _charts(
    reports: Sequence[DriftReport], kinds: Sequence[Curve], groups: Mapping[str, Sequence[DriftReport]] | None = None
) -> list[str]:
    """A heading and a chart per metric, with one curve per report and one mean per group.

    Args:
        reports: the reports.
        kinds: label, number and thickness of the curve of each report.
        groups: reports by the label of the model.
    """
    parts = []
    for name in dict.fromkeys(metric.name for report in reports for metric in report.metrics):
        curves = [
            Curve(label=kind.label, scores=report.scores[name], number=kind.number, is_faint=kind.is_faint)
            for report, kind in zip(reports, kinds, strict=True)
            if name in report.scores
        ]
        for i, (label, group) in enumerate((groups or {}).items()):
            if scores := mean_scores([report.scores[name] for report in group if name in report.scores]):
                curves.append(Curve(label=f"mean of {label}", scores=scores, number=i))
        parts += [f"<h2>{escape(name)}</h2>", chart(name, curves)]
    return parts


def mean_scores(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Mean score of each chunk over videos; empty if the videos have different numbers of chunks."""
    if not rows or len({len(row) for row in rows}) > 1:
        return []
    known = [[score for score in chunk if score is not None] for chunk in zip(*rows, strict=True)]
    means = [sum(chunk) / len(chunk) if chunk else None for chunk in known]
    return means if any(mean is not None for mean in means) else []


def _strips(reports: Sequence[DriftReport]) -> list[str]:
    """Thumbnails of every chunk. The worst chunk of a metric has a frame around it."""
    parts = []
    for report in reports:
        if not report.thumbnails:
            continue
        worst = {metric.worst_chunk: metric.name for metric in report.metrics}
        pictures = [
            f'<figure{_framed(worst.get(i))}><img alt="chunk {i}" src="data:image/jpeg;base64,'
            f'{base64.b64encode(data).decode()}"><figcaption>{i}</figcaption></figure>'
            for i, data in enumerate(report.thumbnails)
        ]
        if len(reports) > 1:
            parts.append(f'<div class="small">{escape(report.video)}</div>')
        parts.append(f'<div class="strip">{"".join(pictures)}</div>')
    return parts


def _framed(metric: str | None) -> str:
    return "" if metric is None else f' class="worst" title="farthest from the first chunk in {escape(metric)}"'


def _remark(report: DriftReport, reports: Sequence[DriftReport]) -> str:
    text = " ".join(report.remarks)
    return text if len(reports) == 1 else f"{report.video}: {text}"


def _key(number: int) -> str:
    return f'<span class="key" style="background: var(--c{number % NUM_COLOURS})"></span>'


def _legend(reports: Sequence[DriftReport]) -> str:
    rows = [
        f"<div>{_key(i)}{escape(report.video)} <span class='small'>{escape(report.summary)}</span></div>"
        for i, report in enumerate(reports)
    ]
    return "\n".join(rows)


def _errors(reports: Sequence[DriftReport]) -> str:
    header, rows = error_table(reports[0])
    if len(reports) > 1:
        header = ["video", *header, "frozen"]
        rows = [
            [report.video, *row, f"{len(report.frozen_chunks)} of {report.num_chunks}"]
            for report in reports
            for row in error_table(report)[1]
        ]
    return _table(header, rows)


def _scores(report: DriftReport, *, folded: bool) -> str:
    header, rows = chunk_table(report)
    table = f'{_table(header, rows)}\n<p class="small">{escape(report.provenance)}</p>'
    title = f"Scores of {escape(report.video)}"
    return f"<details><summary>{title}</summary>{table}</details>" if folded else f"<h2>{title}</h2>\n{table}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
