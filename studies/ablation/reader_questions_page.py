"""The answers to readers' questions as Markdown; every sentence follows from the figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bdiff.output import markdown_table
from studies.ablation.configurations import BASELINE, CONFIGURATIONS, OURS, TRUTH
from studies.ablation.figures import CLAIMED, MEASURES
from studies.ablation.reader_questions import (
    ALL_TOKENS,
    CACHE,
    CHUNK_MEASURES,
    LOSSES,
    PHASES,
    PLACE_MEASURES,
    SPARSE,
    SWAPS,
    compared_configurations,
    phase_chunks,
)
from studies.ablation.tables import difference_text, direction, interval_text

Figure = Mapping[str, float] | None

_GAMMAS = ("gamma-0", "gamma-0.5")
_SWAP_TITLES = {
    "cache_in": f"cache swapped in `{BASELINE}`",
    "losses_in": f"losses swapped in `{BASELINE}`",
    "cache_out": f"cache swapped in `{OURS}`",
    "losses_out": f"losses swapped in `{OURS}`",
    "cache_against_losses": "cache alone, less losses alone",
}
_SWAPPED = {
    "cache_in": f"The cache of `{OURS}` in `{BASELINE}`",
    "losses_in": f"The losses of `{OURS}` in `{BASELINE}`",
    "cache_out": f"The cache of `{BASELINE}` in `{OURS}`",
    "losses_out": f"The losses of `{BASELINE}` in `{OURS}`",
}


def questions_parts(summary: Mapping[str, Any], *, pictures: Mapping[str, str]) -> list[str]:
    """Paragraphs, tables and plots of the questions.

    Args:
        summary: The summary that `run_ablation` returns.
        pictures: Links of plots, by the names that `draw_questions` gives them.
    """
    stories = summary["stories"]
    return [
        f"Intervals are bootstrap 95% over {stories} stories, differences paired by story on the seeds that both "
        "have; bold where the interval leaves 0 out. Only those are called *lower* or *higher*.",
        "## Which matters more, the cache or the losses?",
        *_swaps(summary),
        *_picture(pictures, "swaps", "Differences of one swap at a time"),
        "## What does gamma do?",
        *_gamma(summary),
        "## What do sparse tokens keep, and what time do they save?",
        *_tokens(summary),
        *_picture(pictures, "kept", "Share of tokens kept by layer"),
        "## How do videos change from chunk to chunk?",
        *_phases(summary),
        *_picture(pictures, "phases", "Early, middle and late chunks"),
        "## What happens where a place is new?",
        *_places(summary),
    ]


def _picture(pictures: Mapping[str, str], name: str, alt: str) -> Iterator[str]:
    if link := pictures.get(name):
        yield f"![{alt}]({link})"


def _absent(summary: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    """A sentence that names the configurations that are not there; None if all are."""
    absent = [f"`{label}`" for label in labels if label not in summary["cells"]]
    return f"**Not measured yet**: {', '.join(absent)}." if absent else None


def _swaps(summary: Mapping[str, Any]) -> Iterator[str]:
    found, stories = summary["questions"]["swaps"], summary["stories"]
    labels = (BASELINE, CACHE, LOSSES, OURS)
    yield (
        f"`{BASELINE}` has neither the semantic sparse cache nor Block Forcing, `{OURS}` has both, `{CACHE}` the cache "
        f"alone and `{LOSSES}` the losses alone. So the effect of one swap is a difference of two of these."
    )
    if absent := _absent(summary, labels):
        yield absent
    elif missing := [swap for swap in SWAPS if swap not in found]:
        yield f"**Not measured yet**: {', '.join(_SWAP_TITLES[swap] for swap in missing)} (no seed in common)."
    if not found:
        return
    yield markdown_table(
        ["difference", *(MEASURES[name].title for name in CLAIMED)],
        [
            [_SWAP_TITLES[swap], *(difference_text(by_measure[name], stories) for name in CLAIMED)]
            for swap, by_measure in found.items()
        ],
    )
    for swap, words in _SWAPPED.items():
        if swap in found:
            yield f"{words}: {_said({MEASURES[name].title: found[swap][name] for name in CLAIMED}, stories)}."
    if "cache_against_losses" in found:
        yield _which(found["cache_against_losses"], stories)


def _which(by_measure: Mapping[str, Figure], stories: int) -> str:
    """The sentence that says which swap alone gives less, measure by measure."""
    found: dict[str, list[str]] = {"lower": [], "higher": [], "open": []}
    for name in CLAIMED:
        found[direction(by_measure[name], stories)].append(MEASURES[name].title)
    words = {
        "lower": "the cache alone gives less than the losses alone in",
        "higher": "the losses alone give less than the cache alone in",
        "open": "neither is shown to give less in",
    }
    parts = [f"{text} {', '.join(found[kind])}" for kind, text in words.items() if found[kind]]
    return f"**One against the other**: {'; '.join(parts)}."


def _gamma(summary: Mapping[str, Any]) -> Iterator[str]:
    configurations, stories = summary["cells"], summary["stories"]
    if absent := _absent(summary, (*_GAMMAS, OURS)):
        yield absent
    there = [label for label in (*_GAMMAS, OURS) if label in configurations]
    if not any(label in configurations for label in _GAMMAS):
        return
    yield markdown_table(
        ["gamma", *(measure.title for measure in MEASURES.values())],
        [
            [
                f"{CONFIGURATIONS[label].gamma:g}",
                *(interval_text(configurations[label]["measures"].get(name)) for name in MEASURES),
            ]
            for label in there
        ],
    )
    for label in there:
        if against := configurations[label].get("against_ours"):
            said = _said({MEASURES[name].title: against.get(name) for name in MEASURES}, stories)
            yield f"Gamma {CONFIGURATIONS[label].gamma:g} in place of {CONFIGURATIONS[OURS].gamma:g}: {said}."


def _tokens(summary: Mapping[str, Any]) -> Iterator[str]:
    configurations, seconds = summary["cells"], summary["questions"]["seconds"]
    labels = (ALL_TOKENS, *SPARSE)
    yield (
        f"`{ALL_TOKENS}` is shown all tokens of as many chunks as the sparse configurations. The seconds of a free "
        "video include its decoding, which is the same for all."
    )
    if absent := _absent(summary, labels):
        yield absent
    there = [label for label in labels if label in configurations and configurations[label]["kept"]]
    if not there:
        return
    yield markdown_table(
        ["configuration", "tokens shown", *(f"layer {i}" for i in range(len(configurations[there[0]]["kept"])))],
        [
            [
                CONFIGURATIONS[label].title,
                "–" if configurations[label]["tokens"] is None else f"{configurations[label]['tokens']:.0f}",
                *(f"{100 * share:.3g}%" for share in configurations[label]["kept"]),
            ]
            for label in there
        ],
    )
    for label in there:
        if label != ALL_TOKENS:
            yield f"{_kept(label, configurations[label]['kept'])} {_time(seconds, label, summary['stories'])}"


def _kept(label: str, kept: Sequence[float]) -> str:
    least, most = min(range(len(kept)), key=kept.__getitem__), max(range(len(kept)), key=kept.__getitem__)
    return (
        f"`{label}` keeps {100 * sum(kept) / len(kept):.3g}% of a shown chunk's tokens, from {100 * kept[least]:.3g}% "
        f"in layer {least} to {100 * kept[most]:.3g}% in layer {most}."
    )


def _time(seconds: Mapping[str, Figure], label: str, stories: int) -> str:
    if label not in seconds:
        return f"Its time beside `{ALL_TOKENS}` is not measured yet."
    if (ratio := seconds[label]) is None:
        return f"Its time is not compared: no seed of it and `{ALL_TOKENS}` was sampled in turns."
    times = f"{interval_text(ratio)} times the seconds of `{ALL_TOKENS}`"
    if stories < 2 or ratio["low"] <= 1 <= ratio["high"]:
        return f"A free video takes {times}: no saving is shown."
    return f"A free video takes {times}: {'less' if ratio['high'] < 1 else '**more**'}."


def _phases(summary: Mapping[str, Any]) -> Iterator[str]:
    found, stories = summary["questions"]["phases"], summary["stories"]
    if absent := _absent(summary, (OURS, BASELINE)):
        yield absent
    if not found:
        return
    chunks = phase_chunks(summary["config"]["num_chunks"])
    spans = [f"{phase} {of[0]} to {of[-1]}" for phase, of in chunks.items() if of]
    yield (
        f"Means over chunks ({', '.join(spans)}; chunk 0 is given). Recall counts places that were last seen beyond "
        "the window, so that a video has none of them at first."
    )
    yield markdown_table(
        ["measure", "configuration", *PHASES],
        [
            [measure.title, _title(label), *(interval_text(found[label][name][phase]) for phase in PHASES)]
            for name, measure in CHUNK_MEASURES.items()
            for label in compared_configurations(found)
            if any(found[label][name][phase] for phase in PHASES)
        ],
    )
    yield markdown_table(
        [f"{PHASES[-1]} less {PHASES[0]}", *map(_short, CHUNK_MEASURES)],
        [
            [_title(label), *(difference_text(by[name]["rise"], stories) for name in CHUNK_MEASURES)]
            for label, by in found.items()
        ],
    )
    yield "Late chunks against early ones:\n\n" + _bullets(
        {label: {_short(name): by[name]["rise"] for name in CHUNK_MEASURES} for label, by in found.items()}, stories
    )
    yield from _phases_against(summary)


def _phases_against(summary: Mapping[str, Any]) -> Iterator[str]:
    against, stories = summary["questions"]["phases_against"], summary["stories"]
    rows = [
        [CHUNK_MEASURES[name].title, *(difference_text(by[phase], stories) for phase in PHASES)]
        for name, by in against.items()
        if any(by.values())
    ]
    if not rows:
        return
    yield markdown_table([f"`{OURS}` less `{BASELINE}`", *PHASES], rows)
    for phase in PHASES:
        said = _said({_short(name): by[phase] for name, by in against.items() if by}, stories)
        yield f"In {phase} chunks, `{OURS}` against `{BASELINE}`: {said}."


def _places(summary: Mapping[str, Any]) -> Iterator[str]:
    found, stories = summary["questions"]["places"], summary["stories"]
    if absent := _absent(summary, (OURS, BASELINE)):
        yield absent
    if not found:
        return
    yield "Chunks of first visits to a place (but chunk 0, which is given) against chunks of later visits."
    heads = [f"{CHUNK_MEASURES[name].title}: {group}" for name in PLACE_MEASURES for group in ("new", "returns")]
    heads += [f"{CHUNK_MEASURES[name].title}: new less returns" for name in PLACE_MEASURES]
    rows = [
        [
            _title(label),
            *(interval_text(by[name][group]) for name in PLACE_MEASURES for group in ("new", "returns")),
            *(difference_text(by[name]["difference"], stories) for name in PLACE_MEASURES),
        ]
        for label, by in found.items()
    ]
    yield markdown_table(["configuration", *heads], rows)
    yield "New places against returns:\n\n" + _bullets(
        {label: {_short(name): by[name]["difference"] for name in PLACE_MEASURES} for label, by in found.items()},
        stories,
    )


def _bullets(differences: Mapping[str, Mapping[str, Figure]], stories: int) -> str:
    """A list of what differences show, by label."""
    return "\n".join(f"- {_title(label)}: {_said(by, stories)}." for label, by in differences.items())


def _short(name: str) -> str:
    """The title of a chunk measure up to its colon."""
    return CHUNK_MEASURES[name].title.split(":")[0]


def _title(label: str) -> str:
    return "*the true videos*" if label == TRUTH else f"`{label}`"


def _said(differences: Mapping[str, Figure], stories: int) -> str:
    """What differences show, in words; ``differences`` are by title."""
    found: dict[str, list[str]] = {"lower": [], "higher": [], "open": []}
    for title, difference in differences.items():
        if difference is not None:
            found[direction(difference, stories)].append(title)
    words = {"lower": "lower", "higher": "higher", "open": "nothing shown in"}
    parts = [f"{words[kind]} {', '.join(titles)}" for kind, titles in found.items() if titles]
    return "; ".join(parts) or "nothing to measure"
