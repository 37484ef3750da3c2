"""How steeply metrics answer to faults, and how little to what is none."""

from collections.abc import Mapping, Sequence
from typing import Any

from bdiff.output.markdown import markdown_table
from studies.metric_sensitivity.faults import ANSWERS, CONTROLS, FULL_STRENGTH, STRENGTHS

NEEDED_SPEARMAN, NEEDED_RATIO = 0.9, 10.0


def response(faulty: Sequence[float | None], clean: Sequence[float | None]) -> float | None:
    """Mean relative change of the chunk scores against the same chunks of the clean film.

    Unlike the error, it does not count what the film does by itself. Chunks without a score or with a clean score of 0
    are left out; None where all are.
    """
    changes = [
        abs(after - before) / abs(before)
        for after, before in zip(faulty, clean, strict=True)
        if after is not None and before is not None and before != 0
    ]
    return sum(changes) / len(changes) if changes else None


def spearman(values: Sequence[float | None]) -> float | None:
    """Rank correlation with the strengths, which rise; equal values share their rank. None where a value is missing."""
    if None in values or len(values) < 2:
        return None
    known = [value for value in values if value is not None]
    ranks = [
        sum(other < value for other in known) + (sum(other == value for other in known) - 1) / 2 for value in known
    ]
    order = list(range(len(known)))
    mean = (len(known) - 1) / 2
    spread = sum((rank - mean) ** 2 for rank in ranks) * sum((place - mean) ** 2 for place in order)
    if not spread:
        return 0.0
    return sum((rank - mean) * (place - mean) for rank, place in zip(ranks, order, strict=True)) / spread**0.5


def sensitivity_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per clip, fault and metric: errors and responses by strength, their rank correlation, and the controls'."""
    found: dict[str, Any] = {}
    for clip in dict.fromkeys(line["clip"] for line in lines):
        own = {(line["change"], line["strength"]): line["metrics"] for line in lines if line["clip"] == clip}
        clean = own["clean", 0.0]
        controls = {
            control: {name: response(own[control, 1.0][name]["scores"], clean[name]["scores"]) for name in clean}
            for control in CONTROLS
        }
        faults = {
            fault: {name: _answer(name, fault, own, clean, controls["re-encoding"][name]) for name in clean}
            for fault in ANSWERS
            if (fault, STRENGTHS[-1]) in own
        }
        found[clip] = {
            "clean": {name: float(clean[name]["vde_normalized"]) for name in clean},
            "controls": controls,
            "faults": faults,
        }
    return {"answers": ANSWERS, "clips": found}


def _answer(
    name: str, fault: str, own: Mapping[tuple[str, float], Any], clean: Mapping[str, Any], encoded: float | None
) -> dict[str, Any]:
    measured = [own[fault, strength][name] for strength in STRENGTHS]
    errors = [float(one["vde_normalized"]) for one in measured]
    responses = [response(one["scores"], clean[name]["scores"]) for one in measured]
    last = response(measured[-1]["scores"][-1:], clean[name]["scores"][-1:])  # where the full strength is reached
    return {
        "vde_normalized": [str(error) if error == float("inf") else error for error in errors],
        "response": responses,
        "spearman_vde": spearman(errors),
        "spearman_response": spearman(responses),
        "response_last_chunk": last,
        "times_re_encoding": None if last is None or not encoded else last / encoded,
    }


def sensitivity_parts(summary: Mapping[str, Any]) -> list[str]:
    """The page's parts."""
    config, clips = summary["config"], summary["clips"]
    setting = (
        f"{len(clips)} films of {config['seconds']:g} s at {config['fps']:g} fps, {config['height']} pixels high, "
        f"{config['num_chunks']} chunks; each fault at strengths {', '.join(f'{s:g}' for s in STRENGTHS)}, growing "
        "from nothing in the first chunk to its strength in the last frame. The *error* is the normalised VDE of the "
        "faulty film. The *response* is the mean relative change of its chunk scores against the clean film's: it "
        "leaves out what the film does by itself. Real clips go forth and back once a chunk and do not drift; stories "
        "do, and there a fault may bring a chunk nearer to the first one: the error need not rise with the strength."
    )
    stated = "Stated before measuring: " + "; ".join(f"{fault}: {metric}" for fault, metric in ANSWERS.items()) + "."
    return [
        "# Does the meter measure?",
        setting,
        stated,
        "Strength 1: " + "; ".join(f"{fault}: {words}" for fault, words in FULL_STRENGTH.items()) + ".",
        "## The stated metric and its fault",
        f"Needed: a rank correlation of {NEEDED_SPEARMAN} of the response with the strength on every film, and in the "
        f"last chunk of the film of full strength {NEEDED_RATIO:g} times the response to re-encoding. What falls short "
        "is in bold, with the film.",
        _stated_table(clips),
        "## Response of every metric at full strength, median over the films",
        _matrix(clips),
        "## What no metric should answer to: the largest response over the films",
        _controls(clips),
    ]


def _stated_table(clips: Mapping[str, Any]) -> str:
    rows = []
    for fault, metric in ANSWERS.items():
        answers = {film: one["faults"][fault][metric] for film, one in clips.items() if fault in one["faults"]}
        if answers:
            columns = (
                ("spearman_response", NEEDED_SPEARMAN, ".2f"),
                ("times_re_encoding", NEEDED_RATIO, ".1f"),
                ("spearman_vde", None, ".2f"),
            )
            cells = [_least({film: one[key] for film, one in answers.items()}, *rest) for key, *rest in columns]
            rows.append([fault, metric, *cells])
    heads = ["fault", "metric", "least Spearman, response", "least ratio to re-encoding", "least Spearman, error"]
    return markdown_table(heads, rows, align="right")


def _least(values: Mapping[str, float | None], needed: float | None, form: str) -> str:
    """The least, and on how many films it falls short, with the film where it is least."""
    known = {film: value for film, value in values.items() if value is not None}
    if not known:
        return "-"
    film = min(known, key=known.__getitem__)
    shown = f"{known[film]:{form}}" + ("" if len(known) == len(values) else f" ({len(values) - len(known)} without)")
    if needed is None or known[film] >= needed:
        return shown
    short = sum(value < needed for value in known.values())
    return f"**{shown}: {film}{f' and {short - 1} more' if short > 1 else ''}**"


def _matrix(clips: Mapping[str, Any]) -> str:
    metrics = list(next(iter(clips.values()))["clean"])
    faults = list(next(iter(clips.values()))["faults"])
    rows = [
        [fault, *(_median([one["faults"][fault][name]["response"][-1] for one in clips.values()]) for name in metrics)]
        for fault in faults
    ]
    return markdown_table(["fault", *metrics], rows, align="right")


def _controls(clips: Mapping[str, Any]) -> str:
    metrics = list(next(iter(clips.values()))["clean"])
    rows = []
    for control in CONTROLS:
        cells = []
        for name in metrics:
            known = [one["controls"][control][name] for one in clips.values()]
            cells.append(_percent(max((value for value in known if value is not None), default=None)))
        rows.append([control, *cells])
    return markdown_table(["change", *metrics], rows, align="right")


def _median(values: Sequence[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    middle = len(known) // 2
    return _percent((known[middle] + known[~middle]) / 2 if known else None)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
