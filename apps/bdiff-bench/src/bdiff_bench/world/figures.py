"""From the lines of stories to figures with intervals, and their table."""

from collections.abc import Mapping, Sequence
from typing import Any

from bdiff.output import markdown_table
from bdiff_bench.harness.statistics import draw_with_replacement, mean_interval
from bdiff_bench.memory.figures import GROWN, GROWTH_FROM, growth_distance, trend

NUM_DRAWS = 2_000
"""Bootstrap samples of the figures that are means over stories, as in the published pages."""

MEANING = {
    "visible": "frames that show the protagonist, of those that should",
    "direction": "chunks whose direction of motion is as prompted",
    "place": "returns on which a place looks like on its first visit",
    "clarity_ratio": "clarity of the last four chunks over that of chunks 1 to 4",
    "true_clarity_ratio": "the same ratio of the true videos",
    "clarity_to_truth": "clarity over that of the true videos",
}
"""Figures of a video, and what they say."""
_GROWTH_MEANING = {
    "palette": "growth of the distance between the palettes of a return and of the first visit",
    "subject": "growth of the error of the protagonist's colours",
}
_BEYOND = "beyond_true"
"""End of the name of a growth from which that of the true videos was subtracted."""


def summarise(lines: list[dict[str, Any]], *, num_chunks: int) -> dict[str, Any]:
    """The mean of every figure over the stories with its interval, and the growth of errors over a video."""
    lines = sorted(lines, key=lambda line: line["story"])  # workers finish in any order, and draws go by order
    figures = {}
    for name in MEANING:
        values = [line[name] for line in lines if line[name] == line[name]]  # without nan
        if values:  # place has none if no story had a return
            figures[name] = mean_interval(values, num_draws=NUM_DRAWS) | {"least": min(values)}
    return {"stories": len(lines), "figures": figures, "growth": growth(lines, num_chunks)}


def world_table(summary: dict[str, Any]) -> str:
    """The figures of a summary as a Markdown table."""
    rows = []
    for name, figure in summary["figures"].items():
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        rows.append([MEANING[name], f"{figure['mean']:.3f}", interval, f"{figure['least']:.3f}"])
    for name, figure in summary["growth"].items():
        interval = f"{figure['low']:+.4f} to {figure['high']:+.4f}"
        rows.append([growth_meaning(name), f"{figure['mean']:+.4f}", interval, ""])
    found = summary["retrieval"]
    share = "" if found["share"] is None else f"{found['share']:.3f}"
    rows.append([f"{found['returns']} returns: an older chunk in view shows the place", share, "", ""])
    return markdown_table([f"over {summary['stories']} stories", "mean", "95% interval", "least"], rows) + "\n"


def growth_meaning(name: str) -> str:
    """What a growth says."""
    measure, _, beyond = name.partition("_")
    meaning = f"{_GROWTH_MEANING[measure]}, chunk {GROWTH_FROM} to the last"
    return meaning + (", beyond that of the true videos through the autoencoder" if beyond else "")


def growth(lines: Sequence[Mapping[str, Any]], num_chunks: int) -> dict[str, dict[str, float]]:
    """How much the errors of palettes and protagonists rise from chunk `GROWTH_FROM` to the last, with intervals."""
    figures, draws, distance = {}, draw_with_replacement(len(lines)), growth_distance(num_chunks)
    for name in GROWN:
        made, true = (trend([line[videos] for line in lines], name) for videos in ("returns", "true_returns"))
        figures[name] = made.figure(distance, draws)
        figures[f"{name}_{_BEYOND}"] = made.figure(distance, draws, beyond=true)
    return {name: figure for name, figure in figures.items() if figure is not None}
