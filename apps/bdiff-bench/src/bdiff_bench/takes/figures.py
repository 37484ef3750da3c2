"""From the lines of videos to figures with intervals, and their tables."""

from collections.abc import Sequence
from typing import Any

from bdiff.output import markdown_table
from bdiff_bench.harness.statistics import mean_interval
from bdiff_bench.takes.config import TRUTH

MEANING = {
    "visible": "protagonist seen",
    "direction": "direction as prompted",
    "place": "place on return",
    "sharpness": "sharpness over the truth's",
    "clarity_drift": "drift of clarity",
    "motion_drift": "drift of motion",
    "background_drift": "drift of the background",
}
"""Figures of a video by the heads of their columns. All but the drifts are better when they are larger."""


def summarise(
    lines: Sequence[dict[str, Any]], *, takes: Sequence[str], policies: Sequence[str], stories: Sequence[int]
) -> dict[str, Any]:
    """Means over the videos of a kind under each memory, and paired differences to the first memory, with intervals."""
    found = {(line["take"], line["policy"], line["story"]): line for line in lines}
    figures: dict[str, Any] = {}
    for take in takes:
        rows = {p: [found.get((take, p, story)) for story in stories] for p in (TRUTH, *policies)}
        figures[take] = {
            policy: {
                "videos": sum(line is not None for line in own),
                "figures": _means(own),
                "difference": {} if policy in (TRUTH, policies[0]) else _differences(own, rows[policies[0]]),
            }
            for policy, own in rows.items()
        }
    return figures


def takes_tables(summary: dict[str, Any]) -> str:
    """A Markdown table for each kind of video: a row for each memory, the truth first."""
    parts = []
    for take, by_policy in summary["figures"].items():
        shown = [name for name in MEANING if any(name in one["figures"] for one in by_policy.values())]
        rows = [
            [policy, str(one["videos"]), *(_cell(one["figures"].get(name)) for name in shown)]
            for policy, one in by_policy.items()
        ]
        heads = ["memory", "videos", *(MEANING[name] for name in shown)]
        parts.append(f"### {take}\n\n{markdown_table(heads, rows)}\n")
        differences = [
            [policy, *(_cell(one["difference"].get(name), sign="+") for name in shown)]
            for policy, one in by_policy.items()
            if one["difference"]
        ]
        if differences:
            heads = [f"minus {summary['config']['policies'][0]}", *(MEANING[name] for name in shown)]
            parts.append(markdown_table(heads, differences) + "\n")
    return "\n".join(parts)


def _means(lines: Sequence[dict[str, Any] | None]) -> dict[str, dict[str, float]]:
    known = {name: [line[name] for line in lines if line and line[name] is not None] for name in MEANING}
    return {name: mean_interval(values) for name, values in known.items() if values}


def _differences(
    own: Sequence[dict[str, Any] | None], first: Sequence[dict[str, Any] | None]
) -> dict[str, dict[str, float]]:
    pairs = [(one, other) for one, other in zip(own, first, strict=True) if one and other]
    known = {
        name: [one[name] - other[name] for one, other in pairs if None not in (one[name], other[name])]
        for name in MEANING
    }
    return {name: mean_interval(values) for name, values in known.items() if values}


def _cell(figure: dict[str, float] | None, sign: str = "") -> str:
    if figure is None:
        return "–"
    mean, low, high = (format(figure[part], f"{sign}.3f") for part in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
