"""Figures of several kinds of videos and several memories, the differences between memories, and their tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bdiff import defaults
from bdiff.output import markdown_table
from bdiff_bench.harness.statistics import draw_with_replacement, mean_interval
from bdiff_bench.memory.figures import GROWN, growth_distance, trend
from bdiff_bench.world.config import STORY
from bdiff_bench.world.drift import DRIFTS
from bdiff_bench.world.figures import MEANING, NUM_DRAWS, growth, growth_meaning

AGAINST = defaults.POLICY
"""The memory that the others are compared with."""

EXPLANATION = (
    "Drift is the normalised Video Drift Error with linear weights, one score for each chunk, relative to the first "
    "chunk, which is given. The protagonist is looked for with its true silhouette, which is left out of the "
    "background. True videos have passed through the autoencoder; only their clarity ratio is that of the videos as "
    "rendered. Intervals are bootstrap 95% over videos; differences are paired, video by video."
)
"""What a reader must know about the tables."""

_DRIFT = "drift_"
_DRIFT_MEANING = {
    "clarity": "drift of clarity",
    "motion": "drift of motion",
    "background": "drift of the background",
    "background_camera": "drift of the background, the camera's motion subtracted",
    "subject": "drift of the protagonist",
}
_TRUE = ("visible", "direction", "place", "clarity_ratio")
_NAMES = (*(name for name in MEANING if not name.startswith("true_")), *(_DRIFT + name for name in DRIFTS))

Line = Mapping[str, Any]


def compare(lines: Sequence[Line], *, policies: Sequence[str], num_chunks: int) -> dict[str, Any]:
    """Figures of the videos of one kind under each memory.

    Args:
        lines: The lines of that kind, in any order.
        policies: Names of the memories.
        num_chunks: Chunks of a video.

    Returns:
        ``policies``: for each memory the number of ``videos``, the ``figures`` and, of stories, their ``growth``.
        ``true``: figures of the true videos. ``differences``: for each other memory its figures and growth minus those
        of `AGAINST`. Means have intervals and say over how many ``videos`` they are.
    """
    ordered = sorted(lines, key=lambda line: line["story"])  # workers finish in any order, and draws go by order
    own = {policy: [line for line in ordered if line["policy"] == policy] for policy in policies}
    found: dict[str, Any] = {
        "policies": {policy: _of_policy(some, num_chunks) for policy, some in own.items()},
        "true": _true_figures(own[policies[0]]),
        "differences": {},
    }
    if AGAINST in own:
        others = {policy: some for policy, some in own.items() if policy != AGAINST}
        found["differences"] = {policy: _differences(some, own[AGAINST], num_chunks) for policy, some in others.items()}
    return found


def comparison_parts(takes: Mapping[str, Any], *, level: str = "##") -> list[str]:
    """Headings and tables of ``takes``: for each kind what `compare` returns, with the ``retrieval`` of memories.

    Args:
        takes: By kind.
        level: Mark of the headings.
    """
    parts = []
    for take, found in takes.items():
        videos = max(one["videos"] for one in found["policies"].values())
        parts += [f"{level} {take}", _means_table(found, videos)]
        if found["differences"]:
            parts.append(_differences_table(found["differences"]))
    return [*parts, EXPLANATION]


def _of_policy(lines: Sequence[Line], num_chunks: int) -> dict[str, Any]:
    stories = [line for line in lines if line["take"] == STORY]
    return {
        "videos": len(lines),
        "figures": _means({name: [_value(line, name) for line in lines] for name in _NAMES}),
        "growth": growth(stories, num_chunks) if stories else {},
    }


def _true_figures(lines: Sequence[Line]) -> dict[str, Any]:
    found = {name: [_value(line, f"true_{name}") for line in lines] for name in _TRUE}
    drifts = {_DRIFT + name: [line["true_drift"][name] for line in lines] for name in DRIFTS}
    return _means(found | drifts)


def _differences(lines: Sequence[Line], against: Sequence[Line], num_chunks: int) -> dict[str, Any]:
    """Figures and growth of one memory minus those of another, over the videos that both have made."""
    theirs = {line["story"]: line for line in against}
    pairs = [(line, theirs[line["story"]]) for line in lines if line["story"] in theirs]
    figures = _means({name: [_minus(_value(a, name), _value(b, name)) for a, b in pairs] for name in _NAMES})
    grown = {}
    if pairs and pairs[0][0]["take"] == STORY:
        draws, distance = draw_with_replacement(len(pairs)), growth_distance(num_chunks)
        for name in GROWN:
            one, other = (trend([pair[side]["returns"] for pair in pairs], name) for side in (0, 1))
            grown[name] = one.figure(distance, draws, beyond=other)
    return {"figures": figures, "growth": {name: figure for name, figure in grown.items() if figure is not None}}


def _means(values: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """The mean of the known values of each figure that has some."""
    known = {name: [value for value in some if value is not None] for name, some in values.items()}
    return {
        name: mean_interval(some, num_draws=NUM_DRAWS) | {"videos": len(some)} for name, some in known.items() if some
    }


def _value(line: Line, name: str) -> float | None:
    """A figure of a video; None if there was nothing to measure."""
    value = line["drift"][name.removeprefix(_DRIFT)] if name.startswith(_DRIFT) else line[name]
    return value if value is not None and math.isfinite(value) else None


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _means_table(found: Mapping[str, Any], videos: int) -> str:
    by_policy = found["policies"]
    rows = []
    for name in _NAMES:
        figures = [one["figures"].get(name) for one in by_policy.values()]
        if any(figures):
            rows.append([_meaning(name), *(_cell(figure, videos) for figure in figures)])
            rows[-1].append(_cell(found["true"].get(name), videos))
    for name in dict.fromkeys(name for one in by_policy.values() for name in one["growth"]):
        cells = (_cell(one["growth"].get(name), form="+.4f") for one in by_policy.values())
        rows.append([growth_meaning(name), *cells, _cell(None)])
    if any(one["retrieval"]["share"] is not None for one in by_policy.values()):
        rows.append([_RETRIEVAL, *(_retrieval_cell(one["retrieval"]) for one in by_policy.values()), _cell(None)])
    return markdown_table([f"over {_videos(videos)}", *by_policy, "true videos"], rows)


_RETRIEVAL = "returns on which an older chunk in view shows the place"


def _differences_table(differences: Mapping[str, Any]) -> str:
    rows = []
    for name in _NAMES:
        figures = [one["figures"].get(name) for one in differences.values()]
        if any(figures):
            rows.append([_meaning(name), *(_cell(figure, form="+.3f") for figure in figures)])
    for name in dict.fromkeys(name for one in differences.values() for name in one["growth"]):
        cells = (_cell(one["growth"].get(name), form="+.4f") for one in differences.values())
        rows.append([growth_meaning(name), *cells])
    return markdown_table(["difference", *(f"{policy} minus {AGAINST}" for policy in differences)], rows)


def _meaning(name: str) -> str:
    return _DRIFT_MEANING[name.removeprefix(_DRIFT)] if name.startswith(_DRIFT) else MEANING[name]


def _retrieval_cell(retrieval: Mapping[str, Any]) -> str:
    return "–" if retrieval["share"] is None else f"{retrieval['share']:.3f} of {retrieval['returns']}"


def _cell(figure: Mapping[str, Any] | None, videos: int | None = None, *, form: str = ".3f") -> str:
    """A mean with its interval, and how many videos have the figure if not all of them do."""
    if figure is None:
        return "–"
    mean, low, high = (format(figure[name], form) for name in ("mean", "low", "high"))
    some = f", {_videos(figure['videos'])}" if videos is not None and figure["videos"] < videos else ""
    return f"{mean} ({low} to {high}{some})"


def _videos(count: int) -> str:
    return f"{count} video" + "s" * (count != 1)
