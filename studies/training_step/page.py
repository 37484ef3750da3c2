"""The page of the study, from its figures alone."""

import statistics
from typing import Any

from bdiff.output import markdown_table

_WANTED = 0.4
"""Share of the matrix-product rate that was wanted."""


def training_step_parts(figures: dict[str, Any]) -> list[str]:
    """The parts of the page: the share of the matrix-product rate, and where the time of a step goes."""
    runs = figures["runs"]
    reached = {name: _rate(run) / runs["float32"]["rates"]["square"] for name, run in runs.items()}
    return [
        _verdict(reached),
        _setting(figures["machine"], runs["float32"]),
        "## Rates",
        _rates(runs, reached),
        "The work of a step is three times that of a forward pass. Pairs of tokens that the mask hides are part of it, "
        "because attention with a mask computes them. Muon's iteration is not. Two lines of the table count it the "
        "other way.",
        "## Where the time goes",
        _table("part of a step", runs, "phases"),
        "The rest of a step is clipping, averaging and the loop itself.",
        _table("kind of operation", runs, "kinds"),
        "## What stands in the way",
        *(_obstacles(name, run) for name, run in runs.items()),
        "## The operations that take most",
        _table("operation, its own time", runs, "largest"),
    ]


def _setting(machine: dict[str, Any], run: dict[str, Any]) -> str:
    return (
        f"{machine['device']}, torch threads: {machine['threads']}, Python {machine['python']}, "
        f"torch {machine['torch']}, commit {machine['commit']}; the shipped transformer under the recipe `default`, "
        f"{run['tokens_a_step']:,} tokens and {run['flops_a_step'] / 1e9:,.0f} Gflop a step. Times are processor time, "
        "so that other work on the machine does not count (it still shares caches and memory); shares of the profile "
        "are of elapsed time. Made by `python -m studies.training_step`."
    )


def _rate(run: dict[str, Any]) -> float:
    return run["flops_a_step"] / statistics.median(run["seconds"])


def _verdict(reached: dict[str, float]) -> str:
    said = ", ".join(f"{share:.0%} in {name}" for name, share in reached.items())
    there = [name for name, share in reached.items() if share >= _WANTED]
    verdict = f"{' and '.join(there)} reach" if there else "none reaches"
    return f"**{said}** of the rate of a float32 matrix product; {verdict} the {_WANTED:.0%} that were wanted."


def _rates(runs: dict[str, Any], reached: dict[str, float]) -> str:
    rows = [
        ("s a step, median", lambda name, run: f"{statistics.median(run['seconds']):.2f}"),
        ("least and most", lambda name, run: f"{min(run['seconds']):.2f} to {max(run['seconds']):.2f}"),
        ("Gflop/s of the step", lambda name, run: f"{_rate(run) / 1e9:.1f}"),
        ("share of float32's square product", lambda name, run: f"{reached[name]:.2f}"),
        ("share of its own dtype's", lambda name, run: f"{_rate(run) / run['rates']['square']:.2f}"),
        ("... with Muon's iteration as work", lambda name, run: f"{_share(run, run['orthogonal_flops']):.2f}"),
        ("... without hidden pairs as work", lambda name, run: f"{_share(run, -run['hidden_flops']):.2f}"),
        ("Gflop/s, square product", lambda name, run: f"{run['rates']['square'] / 1e9:.0f}"),
        ("tokens by width", lambda name, run: f"{run['rates']['tokens_by_width'] / 1e9:.0f}"),
        ("tokens by feed-forward", lambda name, run: f"{run['rates']['tokens_by_hidden'] / 1e9:.0f}"),
        ("gradient of the feed-forward's weight", lambda name, run: f"{run['rates']['weight_gradient'] / 1e9:.0f}"),
        ("ms of a layer's attention, forward", lambda name, run: f"{1e3 * run['attention']['forward']:.0f}"),
        ("backward", lambda name, run: f"{1e3 * run['attention']['backward']:.0f}"),
    ]
    return markdown_table(["", *runs], [[label, *(cell(*item) for item in runs.items())] for label, cell in rows])


def _share(run: dict[str, Any], more: int) -> float:
    """Share of the rate of the run's own dtype, with some more operations counted (or fewer)."""
    return (run["flops_a_step"] + more) / statistics.median(run["seconds"]) / run["rates"]["square"]


def _obstacles(name: str, run: dict[str, Any]) -> str:
    kinds, phases = run["profile"]["kinds"], run["profile"]["phases"]
    others = {kind: share for kind, share in kinds.items() if kind not in ("matrix products", "attention")}
    worst = ", ".join(f"{kind} {share:.0%}" for kind, share in sorted(others.items(), key=lambda item: -item[1]))
    shape = run["rates"]["tokens_by_width"] / run["rates"]["square"]
    return (
        f"**{name}**: matrix products take {kinds['matrix products']:.0%} of a step and attention "
        f"{kinds['attention']:.0%}; beside them {worst}. Products of tokens by width run at {shape:.0%} of the rate of "
        f"the square one. Muon takes {phases.get('Muon', 0.0):.0%} of a step for work that is not "
        f"counted. A layer's attention takes {1e3 * sum(run['attention'].values()):.0f} ms, forward and backward."
    )


def _table(label: str, runs: dict[str, Any], part: str) -> str:
    names = dict.fromkeys(name for run in runs.values() for name in run["profile"][part])
    rows = [[name, *(f"{run['profile'][part].get(name, 0.0):.3f}" for run in runs.values())] for name in names]
    return markdown_table([label, *runs], rows)
