"""A bench's figures as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from bdiff.output import markdown_table
from bdiff_bench.memory.arms import RANDOM_PLACE, RECONSTRUCTION, YARDSTICKS
from bdiff_bench.memory.figures import ALL, BEYOND, GROWTH_FROM, HELD, WITHIN, gap_groups
from bdiff_bench.memory.measures import MEASURES, Mode

PICTURES = {
    "errors.png": "Error over the time a place was away",
    "returns.png": "Places on their first visit and when the video comes back to them",
    "tokens.png": "Share of tokens kept in each layer",
}
"""The pictures of a bench and what they show."""

_HEADINGS = {"given": "First visits given", "free": "Free running"}
_EXPLANATIONS = {
    "given": (
        "Every chunk of a first visit is given as true latents, every chunk of a later visit generated. Errors are "
        "mean absolute differences from the true colours, in [0, 1], over the world's true sky, ground and landmark."
    ),
    "free": (
        "Only the first chunk is given. Distances are from the mean colours of a region to those of the first visit in "
        "the video itself, in [0, 1]. *elsewhere* is the distance to first visits of other places. In a video of one "
        "colour, both are 0."
    ),
}
_GAPS = (
    "By chunks since the place was last seen. In *1, after 5+* the chunk before shows the place, in a visit that began "
    "after 5 chunks or more."
)
_NAMES = {
    RECONSTRUCTION: "*reconstruction by the autoencoder*",
    RANDOM_PLACE: "*a random other place*",
}


def memory_parts(summary: Mapping[str, Any], *, pictures: Mapping[str, str]) -> list[str]:
    """Paragraphs and tables of a summary.

    Args:
        summary: What `bench_memory` returns.
        pictures: Link of each of the `PICTURES` there is.
    """
    parts = ["## What is compared", _setting(summary), _arms_table(summary), *_shared_weights(summary)]
    for mode, found in summary["figures"].items():
        parts += [f"## {_HEADINGS[mode]}", _EXPLANATIONS[mode]]
        if not any(found["groups"][ALL].values()):
            parts.append("No story comes back to a place.")
            continue
        parts += [_groups_table(summary, mode), _comparisons_table(summary, mode), _GAPS, _gaps_table(summary, mode)]
        parts += _growth_parts(summary, mode)
    parts += _tokens_parts(summary)
    return parts + [f"![{PICTURES[name]}]({link})" for name, link in pictures.items()]


def _setting(summary: Mapping[str, Any]) -> str:
    config, sampling, machine = summary["config"], summary["config"]["sampling"], summary["machine"]
    return (
        f"bdiff {machine['bdiff']}, torch {machine['torch']} on {machine['processor']} ({config['device']}). "
        f"{_count(config['num_stories'], 'held-out story', 'held-out stories')} of {config['num_chunks']} chunks, "
        f"{_count(config['num_seeds'], 'video', 'videos')} of each by each arm; richness {sampling['richness']}; "
        f"{_count(sampling['steps'], 'step', 'steps')}, shift {sampling['shift']:g}, "
        f"guidance {sampling['guidance']:g}, {sampling['noise']} noise. *Beyond* are chunks whose place was last seen "
        f"more than {summary['window']} chunks before, so that a rolling window of the same budget does not hold it; "
        "*within* are the other chunks of later visits, and *held* those whose place was never beyond since its first "
        "visit. Of the others, a window holds chunks made after the place was lost. Means are over chunks, intervals "
        "are bootstrap 95% over stories, paired for ratios and differences."
    )


def _arms_table(summary: Mapping[str, Any]) -> str:
    rows = [
        [label, f"`{arm['policy']}`", f"`{arm['folder']}`", f"`{arm['transformer'][:12]}`"]
        for label, arm in summary["arms"].items()
    ]
    return markdown_table(["arm", "policy", "transformer", "weights"], rows)


def _shared_weights(summary: Mapping[str, Any]) -> Iterator[str]:
    by_weights: dict[str, list[str]] = {}
    for label, arm in summary["arms"].items():
        by_weights.setdefault(arm["transformer"], []).append(label)
    for labels in by_weights.values():
        if len(labels) > 1:
            yield (
                f"**{', '.join(labels)}** have the same weights: they differ in what they are shown when sampling, "
                "not in training."
            )


def _groups_table(summary: Mapping[str, Any], mode: Mode) -> str:
    groups, names = summary["figures"][mode]["groups"], MEASURES[mode]
    shown = (BEYOND, WITHIN, HELD)
    sizes = {group: _num_chunks(groups[group][names[0]]) for group in shown}
    heads = [f"beyond ({_count(sizes[BEYOND], 'chunk', 'chunks')})", f"within ({sizes[WITHIN]})"]
    heads.append(f"of these held ({sizes[HELD]})")
    heads += [f"{name}, beyond" for name in names[1:]] + ["subject, within"]
    rows = []
    for label in (*summary["arms"], *YARDSTICKS):
        cells = [_interval(groups[group][names[0]].get(label)) for group in shown]
        cells += [_mean(groups[BEYOND][name].get(label)) for name in names[1:]]
        cells.append(_mean(groups[WITHIN]["subject"].get(label)))
        rows.append([_NAMES.get(label, label), *cells])
    return markdown_table([names[0], *heads], rows)


def _comparisons_table(summary: Mapping[str, Any], mode: Mode) -> str:
    found, against = summary["figures"][mode]["comparisons"], summary["against"]
    heads = ["beyond / random place", "within / random place"]
    if against is not None:
        heads += [f"beyond / {against}", "intervals beyond are disjoint", f"within, relative to {against}"]
    rows = []
    for label, row in found.items():
        cells = [_interval(row["beyond_to_random_place"]), _interval(row["within_to_random_place"])]
        if "beyond_ratio" in row:
            apart = {True: "yes", False: "no", None: "–"}[row["beyond_disjoint"]]
            cells += [_interval(row["beyond_ratio"]), apart, _percent(row["within_relative_difference"])]
        cells += ["–"] * (len(heads) - len(cells))
        rows.append([_NAMES.get(label, label), *cells])
    return markdown_table(["compared", *heads], rows)


def _gaps_table(summary: Mapping[str, Any], mode: Mode) -> str:
    groups, measure = summary["figures"][mode]["groups"], MEASURES[mode][0]
    names = list(gap_groups(summary["window"]))
    by_gap = [groups[f"gap {name}"][measure] for name in names]
    rows = [["chunks", *(str(_num_chunks(figures)) for figures in by_gap)]]
    for label in (*summary["arms"], *YARDSTICKS):
        rows.append([_NAMES.get(label, label), *(_mean(figures.get(label)) for figures in by_gap)])
    return markdown_table(["chunks since last seen", *names], rows)


def _growth_parts(summary: Mapping[str, Any], mode: Mode) -> Iterator[str]:
    growth = summary["figures"][mode]["growth"]
    if not any(growth.values()):
        return
    last = summary["config"]["num_chunks"] - 1
    yield (
        f"How much an error rises from chunk {GROWTH_FROM} to chunk {last}, by a straight line through all chunks in "
        "between. An interval with 0 in it shows no growth."
    )
    rows = [
        [_NAMES.get(label, label), *(_interval(by_label.get(label), form="+.4f") for by_label in growth.values())]
        for label in (*summary["arms"], RECONSTRUCTION)
    ]
    yield markdown_table(["growth", *growth], rows)


def _tokens_parts(summary: Mapping[str, Any]) -> Iterator[str]:
    arms = {label: arm["tokens"] for label, arm in summary["arms"].items() if arm["tokens"]["kept"]}
    if not arms:
        return
    layers = max(len(tokens["kept"]) for tokens in arms.values())
    rows = []
    for label, tokens in arms.items():
        shown = "–" if tokens["shown"] is None else f"{tokens['shown']:.0f}"
        shares = [f"{share:.3f}" for share in tokens["kept"]]
        rows.append([label, shown, *shares, *["–"] * (layers - len(shares))])
    yield "## Tokens"
    yield (
        "The share of a remembered chunk's tokens that a layer shows, mean over the chunks shown; and how many tokens "
        f"of the past a layer shows to a chunk, mean over layers, once the video is {summary['window']} chunks long."
    )
    yield markdown_table(["share kept", "tokens shown a chunk", *(f"layer {i}" for i in range(layers))], rows)


def _num_chunks(figures: Mapping[str, Any]) -> int:
    """Chunks of a group in one video of each story, counted on a yardstick, which has one video whatever the seeds."""
    return figures.get(RECONSTRUCTION, {"chunks": 0})["chunks"]


def _interval(figure: Mapping[str, float] | None, *, form: str = ".4f") -> str:
    if figure is None:
        return "–"
    mean, low, high = (format(figure[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _percent(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure['mean']:+.1f}% ({100 * figure['low']:+.1f}% to {100 * figure['high']:+.1f}%)"


def _mean(figure: Mapping[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['mean']:.4f}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
