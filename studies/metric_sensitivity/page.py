"""How strongly metrics answer to faults and to controls, and the page of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bdiff.output import markdown_table
from bdiff_bench.harness import median_of_known, rank_correlation
from studies.metric_sensitivity.faults import ANSWERS, CONTROLS, FULL_STRENGTH, STRENGTHS

NEEDED_SPEARMAN, NEEDED_RATIO = 0.9, 10.0
"""What is needed: rank correlation with the strength, and times the response to re-encoding."""


def response(faulty: Sequence[float | None], clean: Sequence[float | None]) -> float | None:
    """Mean relative change of the chunk scores against the same chunks of the clean video.

    Unlike the error, it does not count how the clean video changes. Chunks without a score or with a clean score of 0
    are left out; None where all are.
    """
    changes = [
        abs(after - before) / abs(before)
        for after, before in zip(faulty, clean, strict=True)
        if after is not None and before is not None and before != 0
    ]
    return sum(changes) / len(changes) if changes else None


def sensitivity_figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Errors and responses by clip, fault and metric for each strength, their rank correlations, and the controls."""
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
        "spearman_vde": rank_correlation(errors),
        "spearman_response": rank_correlation(responses),
        "response_last_chunk": last,
        "times_re_encoding": None if last is None or not encoded else last / encoded,
    }


def sensitivity_parts(summary: Mapping[str, Any]) -> list[str]:
    """The parts of the page."""
    config, clips = summary["config"], summary["clips"]
    setting = (
        f"{len(clips)} videos of {config['seconds']:g} s at {config['fps']:g} fps, {config['height']} pixels high, "
        f"{config['num_chunks']} chunks; each fault at strengths {', '.join(f'{s:g}' for s in STRENGTHS)}, growing "
        "from nothing in the first chunk to its strength in the last frame. The *error* is the normalised VDE of the "
        "faulty video. The *response* is the mean relative change of its chunk scores against the clean video's: it "
        "leaves out how the clean video changes. Real clips play forwards and backwards once a chunk and do not drift. "
        "Stories do, and a fault may bring a chunk nearer to the first one, so the error need not rise with the "
        "strength."
    )
    stated = "Stated before measuring: " + "; ".join(f"{fault}: {metric}" for fault, metric in ANSWERS.items()) + "."
    return [
        setting,
        stated,
        "Strength 1: " + "; ".join(f"{fault}: {words}" for fault, words in FULL_STRENGTH.items()) + ".",
        "## The stated metric and its fault",
        f"Needed: a rank correlation of {NEEDED_SPEARMAN} of the response with the strength on every video, and in the "
        f"last chunk of the video of full strength {NEEDED_RATIO:g} times the response to re-encoding. What falls "
        "short is in bold, with the video.",
        _stated_table(clips),
        "## Response of every metric at full strength, median over the videos",
        _matrix(clips),
        "## What no metric should answer to: the largest response over the videos",
        _controls(clips),
    ]


def _stated_table(clips: Mapping[str, Any]) -> str:
    rows = []
    for fault, metric in ANSWERS.items():
        answers = {clip: one["faults"][fault][metric] for clip, one in clips.items() if fault in one["faults"]}
        if answers:
            columns = (
                ("spearman_response", NEEDED_SPEARMAN, ".2f"),
                ("times_re_encoding", NEEDED_RATIO, ".1f"),
                ("spearman_vde", None, ".2f"),
            )
            cells = [_least({clip: one[key] for clip, one in answers.items()}, *rest) for key, *rest in columns]
            rows.append([fault, metric, *cells])
    heads = ["fault", "metric", "least Spearman, response", "least ratio to re-encoding", "least Spearman, error"]
    return markdown_table(heads, rows, align="right")


def _least(values: Mapping[str, float | None], needed: float | None, form: str) -> str:
    """The least value with its clip, and on how many clips the values fall short."""
    known = {clip: value for clip, value in values.items() if value is not None}
    if not known:
        return "-"
    clip = min(known, key=known.__getitem__)
    shown = f"{known[clip]:{form}}" + ("" if len(known) == len(values) else f" ({len(values) - len(known)} without)")
    if needed is None or known[clip] >= needed:
        return shown
    short = sum(value < needed for value in known.values())
    return f"**{shown}: {clip}{f' and {short - 1} more' if short > 1 else ''}**"


def _matrix(clips: Mapping[str, Any]) -> str:
    metrics = list(next(iter(clips.values()))["clean"])
    faults = list(next(iter(clips.values()))["faults"])
    rows = [
        [
            fault,
            *(
                _percent(median_of_known([one["faults"][fault][name]["response"][-1] for one in clips.values()]))
                for name in metrics
            ),
        ]
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


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
