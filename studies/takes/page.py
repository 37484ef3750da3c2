"""The page of the study, from its figures alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from bdiff.output import markdown_table
from studies.takes.faults import RATES, UNITS, rate_words
from studies.takes.figures import SPREADS, seen_from
from studies.takes.measuring import METRICS, SUBJECT_EVERY

NEAR_ZERO = 0.05
"""A normalised error up to which a true video counts as near zero."""
IN_ORDER = 0.9
"""Share of neighbouring rates in order from which on an order counts as right."""

Figures = Mapping[str, Any]


def takes_parts(summary: Figures, *, pictures: Mapping[str, str]) -> list[str]:
    """The parts of the page.

    Args:
        summary: What `measure_takes` returns.
        pictures: Links to the pictures by name: kinds, faults and drift.
    """
    config = summary["config"]
    count, fewer, large, small = (config[name] for name in ("num_chunks", "fewer_chunks", "size", "small_size"))
    return [
        "## Misses first",
        f"*Near zero* is a normalised error of at most {NEAR_ZERO:.0%}, at {large} pixels and with {count} chunks. A "
        f"fault is *seen* if the error that it adds is at least {SPREADS:g} standard deviations of the errors of true "
        "videos of that kind.",
        _bullets([*_true_misses(summary), *_planted_misses(summary)]),
        "## What is seen",
        _bullets(_seen_faults(summary)),
        "## What was measured",
        *_setting(summary),
        f"![The first video of each kind, at {large} and {small} pixels]({pictures['kinds']})",
        "From above: story, place and walk; each large, then small. From left to right: five moments of the video.",
        "## Drift of true videos",
        f"Normalised error in percent, {count} chunks: mean with bootstrap 95% interval over the videos. In bold what "
        f"is above {NEAR_ZERO:.0%}.",
        _true_table(summary, str(count)),
        f"The same with {fewer} chunks.",
        _true_table(summary, str(fewer)),
        f"The published error, a weighted sum that grows with the number of chunks; {large} pixels.",
        _raw_table(summary),
        "The score of the first chunk over the mean of the later ones, mean over the videos. Errors refer to the first "
        f"chunk. It has {config['chunk_frames'] - 3} frames, later ones have {config['chunk_frames']}. In "
        "stories and walks the way in a chunk does not depend on its frames, so the first chunk is "
        f"{config['chunk_frames'] / (config['chunk_frames'] - 3) - 1:.0%} faster; in one place its way is a tenth "
        "shorter. The first chunk is always a walk, and walks, jumps and paces differ in motion.",
        _first_table(summary),
        f"![Errors of true videos, and errors over the rates of planted drift]({pictures['drift']})",
        "## Planted drift",
        "; ".join(f"*{fault}*: {words}" for fault, words in UNITS.items()) + ".",
        f"![A true place and the three faults at their largest rate]({pictures['faults']})",
        "From above: the true video, then "
        + ", ".join(f"{fault} of {rate_words(fault, rates[-1])}" for fault, rates in RATES.items())
        + ".",
        "### Which metric responds to which fault",
        "The error that the largest rate adds, in standard deviations of the errors of true videos of that kind. In "
        f"bold what is at least {SPREADS:g}: it is seen without knowing the true video.",
        _matrix(summary, _spreads),
        f"The smallest rate from which on the added error is at least {SPREADS:g} standard deviations.",
        _matrix(summary, _seen),
        "### Is the order right?",
        "Share of neighbouring rates, from none to the largest, of which the larger one has the larger error; mean "
        f"over the videos. In bold what is below {IN_ORDER:.0%}. An order by chance has 50%.",
        _matrix(summary, _order),
        "The same share for the change of the chunk scores against the same chunks of the true video. It shows whether "
        "the metric itself follows the fault, whatever the error makes of it.",
        _matrix(summary, _score_order),
        "## Not measured",
        "Aesthetics and the metrics of `vde_metrics.vbench`: all of them need weights from elsewhere. Estimated "
        "subjects: the true masks were given. A loss of saturation: the fault of colour is a cast. Real videos. Faults "
        f"in more than {config['num_planted']} videos of each kind.",
    ]


def _setting(summary: Figures) -> list[str]:
    config, machine, seeds = (summary[name] for name in ("config", "machine", "seeds"))
    frames = config["num_chunks"] * config["chunk_frames"] - 3
    return [
        f"`python -m studies.takes`: {config['num_seeds']} held-out videos of each kind, seeds {seeds[0]} to "
        f"{seeds[-1]}, {config['num_chunks']} chunks, {frames} frames at 8 fps, richness 2. Story: cuts between "
        "places. Place: one place, a camera that stands still, others pass by. Walk: the camera follows through a wide "
        "place. "
        f"Planted drift: the first {config['num_planted']} videos of each kind. All frames are measured in memory, "
        "without compression.",
        "Blur and colour are absent in the first chunk and grow linearly to their rate in the last frame. The swapped "
        "protagonist does the same action in the same direction, in the light of the place, and the metrics get its "
        "mask.",
        "Background and subject get the true mask of the protagonist; passers-by count as background. "
        "`background_camera` subtracts the motion of the camera. The encoder of the subject is EfficientNet-lite0, on "
        f"every {SUBJECT_EVERY}th frame. Errors have linear weights: of {config['num_chunks']} chunks, the last one "
        f"has 1/{config['num_chunks'] * (config['num_chunks'] - 1) // 2} of the weight.",
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, torch {machine['torch']}, "
        f"bdiff {machine['bdiff']}, storyworld {machine['storyworld']} (pictures {summary['world']}), vde-metrics "
        f"{machine['vde-metrics']}, OpenCV {machine['opencv-python-headless']}.",
    ]


def _true_misses(summary: Figures) -> list[str]:
    """For each kind the metrics whose true videos are not near zero, and those whose are."""
    count = str(summary["config"]["num_chunks"])
    found = []
    for kind, sizes in summary["true"].items():
        errors = {name: one["normalized"]["mean"] for name, one in sizes["large"][count].items() if one["normalized"]}
        far = [f"{name} ({error:.1%})" for name, error in errors.items() if error > NEAR_ZERO]
        near = [f"{name} ({error:.1%})" for name, error in errors.items() if error <= NEAR_ZERO]
        far_words = f"not near zero by {', '.join(far)}" if far else "near zero by every metric"
        found.append(
            f"True videos of kind *{kind}* are {far_words}." + (f" Near zero: {', '.join(near)}." if far else "")
        )
    return found


def _planted_misses(summary: Figures) -> list[str]:
    """For each fault the metrics that do not see it, whose error it lowers, or that order its rates wrongly."""
    found = []
    for fault, rates in RATES.items():
        answers = [
            (name, kind, answer)
            for kind, faults in summary["planted"].items()
            for name, answer in faults[fault].items()
        ]
        silent = [(name, kind) for name, kind, answer in answers if seen_from(answer, rates) is None]
        lower = [
            (name, kind) for name, kind, answer in answers if answer["added"][-1] and answer["added"][-1]["high"] < 0
        ]
        wrong = [
            (name, kind)
            for name, kind, answer in answers
            if (name, kind) not in silent and (answer["pairs_in_order"] or 0.0) < IN_ORDER
        ]
        largest = rate_words(fault, rates[-1])
        if silent:
            found.append(f"*{fault}* up to {largest} is not seen by {_named(silent, summary)}.")
        if lower:
            found.append(f"*{fault}* of {largest} lowers the error of {_named(lower, summary)}.")
        if wrong:
            found.append(f"*{fault}* is seen but its rates are not always in order by {_named(wrong, summary)}.")
    return found


def _seen_faults(summary: Figures) -> list[str]:
    """For each fault and metric the rates from which on it is seen, by kind."""
    found = []
    for fault in RATES:
        for name in METRICS:
            rates = {kind: seen_from(faults[fault][name], RATES[fault]) for kind, faults in summary["planted"].items()}
            words = [f"{rate_words(fault, rate)} ({kind})" for kind, rate in rates.items() if rate is not None]
            if words:
                found.append(f"*{fault}* is seen by {name} from {', '.join(words)} on.")
    return found or ["Nothing."]


def _named(pairs: Sequence[tuple[str, str]], summary: Figures) -> str:
    """Metrics, each with the kinds of video unless it is all of them."""
    kinds = list(summary["planted"])
    words = []
    for name in METRICS:
        own = [kind for metric, kind in pairs if metric == name]
        if own:
            words.append(name if len(own) == len(kinds) else f"{name} ({', '.join(own)})")
    return ", ".join(words)


def _true_table(summary: Figures, count: str) -> str:
    config, true = summary["config"], summary["true"]
    rows = []
    for name in METRICS:
        for size, pixels in (("large", config["size"]), ("small", config["small_size"])):
            figures = [sizes[size][count].get(name) for sizes in true.values()]
            if any(figures):
                rows.append([f"{name}, {pixels}", *(_percent_interval(one and one["normalized"]) for one in figures)])
    return markdown_table(["metric, pixels", *true], rows, align="right")


def _raw_table(summary: Figures) -> str:
    config, true = summary["config"], summary["true"]
    rows = [
        [f"{name}, {count} chunks", *(_interval(sizes["large"][str(count)][name]["raw"]) for sizes in true.values())]
        for name in METRICS
        for count in (config["num_chunks"], config["fewer_chunks"])
    ]
    return markdown_table(["metric", *true], rows, align="right")


def _first_table(summary: Figures) -> str:
    count, true = str(summary["config"]["num_chunks"]), summary["true"]
    found = [[name, *(sizes["large"][count][name]["first_over_later"] for sizes in true.values())] for name in METRICS]
    rows = [[name, *("-" if ratio is None else f"{ratio:.3f}" for ratio in ratios)] for name, *ratios in found]
    return markdown_table(["metric", *true], rows, align="right")


def _matrix(summary: Figures, cell: Any) -> str:
    """Metrics by fault and kind."""
    kinds = list(summary["planted"])
    heads = ["metric", *(f"{fault}, {kind}" for fault in RATES for kind in kinds)]
    rows = [
        [name, *(cell(fault, summary["planted"][kind][fault][name]) for fault in RATES for kind in kinds)]
        for name in METRICS
    ]
    return markdown_table(heads, rows, align="right")


def _spreads(fault: str, answer: Figures) -> str:
    size = answer["added_spreads"][-1]
    return "-" if size is None else f"**{size:.1f}**" if size >= SPREADS else f"{size:.1f}"


def _seen(fault: str, answer: Figures) -> str:
    rate = seen_from(answer, RATES[fault])
    return "not seen" if rate is None else rate_words(fault, rate)


def _order(fault: str, answer: Figures) -> str:
    return _share(answer["pairs_in_order"])


def _score_order(fault: str, answer: Figures) -> str:
    return _share(answer["score_pairs_in_order"])


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}" if share >= IN_ORDER else f"**{share:.0%}**"


def _percent_interval(figure: Figures | None) -> str:
    if figure is None:
        return "-"
    words = f"{100 * figure['mean']:.2f} ({100 * figure['low']:.2f} to {100 * figure['high']:.2f})"
    return f"**{words}**" if figure["mean"] > NEAR_ZERO else words


def _interval(figure: Figures | None) -> str:
    return "-" if figure is None else f"{figure['mean']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
