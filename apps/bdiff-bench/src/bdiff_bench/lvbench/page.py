"""The page of `bdiff bench lvbench`, in the form of the paper's Tables 2 and 3."""

from collections.abc import Mapping
from typing import Any

from bdiff.output import markdown_table

VDE_COLUMNS = {
    "paper": {
        "VDE Subject": "subject",
        "VDE Background": "background",
        "VDE Motion": "motion",
        "VDE Aesthetic": "aesthetic",
        "VDE Clarity": "clarity",
    },
    "released": {
        "VDE Subject": "subject_consistency",
        "VDE Background": "background_consistency",
        "VDE Motion": "motion_smoothness_vfi",
        "VDE Aesthetic": "aesthetic_quality",
        "VDE Clarity": "imaging_quality",
    },
}
"""Columns of the first half of Table 2, and the metrics that fill them."""
PLAIN_COLUMNS = {
    "Subject Consistency": "subject_consistency",
    "Background Consistency": "background_consistency",
    "Motion Smoothness": "motion_smoothness_vfi",
    "Aesthetic Quality": "aesthetic_quality",
    "Image Quality": "imaging_quality",
}
"""Columns of the second half of Table 2; Table 3 has the dynamic degree as well."""


def lvbench_parts(summary: dict[str, Any]) -> list[str]:
    """Parts of the page: the two halves of Table 2, Table 3, and remarks on what was measured."""
    config, methods = summary["config"], summary["methods"]
    counts = ", ".join(f"{one['videos']} videos of {method}" for method, one in methods.items())
    setting = (
        f"Protocol {config['protocol']}, {config['num_chunks']} chunks, split {config['split']} with seed "
        f"{config['seed']}: {counts}. Figures are means over videos; brackets hold 95% bootstrap intervals over "
        "videos. A dash was not measured. Errors are the published weighted sums, which grow with the number of chunks."
    )
    vde, plain = VDE_COLUMNS[config["protocol"]], PLAIN_COLUMNS
    full = {**plain, "Dynamic Degree": "dynamic_degree"}
    models = "; ".join(
        f"{name}: {', '.join(f'{role} {model}' for role, model in found.items()) or 'no model'}"
        for name, found in summary["looked_through"].items()
    )
    return [
        setting,
        *_remarks(methods),
        "## Table 2, drift (lower is better)",
        _table(methods, vde, "vde"),
        "## Table 2, VBench (higher is better)",
        _table(methods, plain, "plain"),
        "## Table 3",
        _table(methods, full, "plain"),
        f"Metrics looked through: {models}.",
    ]


def _remarks(methods: Mapping[str, Any]) -> list[str]:
    found = []
    for method, one in methods.items():
        if one["frozen"]:
            found.append(
                f"**Frozen videos of {method}, in which nothing moves: {one['frozen']}. Their errors count in the "
                "means, but are 0, or the noise of compression, and say nothing about quality.**"
            )
        for what, names in (("are missing", one["missing"]), ("could not be measured", list(one["problems"]))):
            if names:
                found.append(f"Videos of {method} that {what}: {len(names)}, such as {names[0]}.")
    return found


def _table(methods: Mapping[str, Any], columns: Mapping[str, str], kind: str) -> str:
    rows = [[method, *(_cell(one[kind].get(metric)) for metric in columns.values())] for method, one in methods.items()]
    return markdown_table(["Method", *columns], rows, align="right")


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "-"
    if found["mean"] == "inf":
        return "inf"
    if found["low"] is None:
        return f"{found['mean']:.4f}"
    return f"{found['mean']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
