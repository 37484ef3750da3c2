"""Answers come of the figures: turned round they say the opposite, and cells that are missing are named."""

import json

import pytest

from studies.ablation.configurations import BASELINE, OURS, TRUTH
from studies.ablation.figures import summarise
from studies.ablation.plots import draw_questions
from studies.ablation.reader_questions import CACHE, LOSSES, PHASES, phase_chunks
from studies.ablation.reader_questions_page import questions_parts
from studies.ablation.videos import DRIFTS
from studies.ablation.write_page import command
from studies.command import run_study

NUM_CHUNKS, STORIES = 8, 3
QUESTIONS = ("cache or the losses", "gamma", "sparse tokens", "chunk to chunk", "place is new")


def line(story, *, level=1.0, rise=0.0, new=1.0, free=2.0, kept=0.5, call="today"):
    """The line of a video of eight chunks, five new and three returns.

    Drift is `level` and grows by `rise` a chunk. The protagonist is seen `new` often where a place is new, and always
    on returns. Stories differ by a hundredth.
    """
    level += story / 100
    changes = [0.0, *(level + rise * chunk for chunk in range(1, NUM_CHUNKS))]
    drift = {metric: {"vde": level, "normalized": level, "scores": changes, "changes": changes} for metric in DRIFTS}
    seen = [1.0, *[new] * 4, 1.0, 1.0, 1.0]
    returns = [{"chunk": 5, "gap": 5, "colour": level, "palette": level}]
    captions = {
        "visible": 1.0,
        "direction": 1.0,
        "place": None,
        "visible_by_chunk": seen,
        "direction_by_chunk": [1] * 8,
    }
    return {
        "story": story, "drift": drift, "frozen": False, "recall": returns, "palette": returns, "captions": captions,
        "new_place": [1] * 5 + [0] * 3, "tokens": 100.0, "kept": [kept / 2, kept, 1.5 * kept],
        "seconds": {"free": free + story, "given": 1.0, "measuring": 1.0}, "call": call,
    }  # fmt: skip


def run_of(label, *, seed=0, stories=STORIES, **options):
    return {
        "cell": {"label": label}, "seed": seed, "machine": {"processor": "slow"}, "training": None,
        "films": [line(story, **options) for story in range(stories)],
    }  # fmt: skip


def summary_of(*runs, stories=STORIES):
    summary = summarise(runs, stories=range(stories), seeds=(0, 1), window=4, wanted=())
    return summary | {"config": {"num_chunks": NUM_CHUNKS}}


def sections(*runs, **options):
    """The page, by question."""
    page = "\n\n".join(questions_parts(summary_of(*runs, **options), pictures={}))
    texts = page.split("## ")[1:]
    return dict(zip(QUESTIONS, texts, strict=True))


def test_where_nothing_is_measured_every_section_says_so():
    assert all("**Not measured yet**" in text for text in sections().values())
    partly = sections(run_of(BASELINE), run_of(OURS))
    assert f"**Not measured yet**: `{CACHE}`, `{LOSSES}`." in partly["cache or the losses"]
    assert "**Not measured yet**: `gamma-0`, `gamma-0.5`." in partly["gamma"]
    assert "**Not measured yet**" not in partly["chunk to chunk"] + partly["place is new"]


@pytest.mark.parametrize(("cache", "losses", "first"), [(1.2, 1.6, "cache"), (1.6, 1.2, "losses"), (1.4, 1.4, None)])
def test_what_matters_more_is_what_the_paired_difference_says(cache, losses, first):
    levels = {BASELINE: 2.0, CACHE: cache, LOSSES: losses, OURS: 1.0}
    text = sections(*(run_of(label, level=level) for label, level in levels.items()))["cache or the losses"]
    verdict = text.partition("**One against the other**: ")[2]
    if first is None:
        assert verdict.startswith("neither is shown to give less in VDE subject, VDE background, VDE clarity, recall")
        assert " the cache alone gives" not in verdict
    else:
        assert verdict.startswith(
            {"cache": "the cache alone gives", "losses": "the losses alone give"}[first] + " less"
        )
        assert "neither" not in verdict
    assert f"The cache of `{OURS}` in `{BASELINE}`: lower VDE subject" in text
    assert f"The cache of `{BASELINE}` in `{OURS}`: higher VDE subject" in text
    assert f"**{cache - 2:.4g} (" in text


def test_a_swap_that_does_harm_is_told_so():
    levels = {BASELINE: 1.0, CACHE: 2.0, LOSSES: 1.0, OURS: 2.0}
    text = sections(*(run_of(label, level=level) for label, level in levels.items()))["cache or the losses"]
    assert f"The cache of `{OURS}` in `{BASELINE}`: higher VDE subject" in text
    assert f"The losses of `{OURS}` in `{BASELINE}`: nothing shown in VDE subject" in text


def test_one_story_shows_nothing():
    levels = {BASELINE: 2.0, CACHE: 1.2, LOSSES: 1.6, OURS: 1.0}
    runs = [run_of(label, level=level, free=level, stories=1) for label, level in levels.items()]
    for text in sections(*runs, stories=1).values():
        assert "lower " not in text
        assert "higher " not in text
        assert ": less." not in text
        assert "**0" not in text


def test_gamma_is_told_as_it_is():
    text = sections(run_of(OURS), run_of("gamma-0", level=0.5), run_of("gamma-0.5", level=1.5))["gamma"]
    assert "Gamma 0 in place of 1: lower VDE subject" in text
    assert "Gamma 0.5 in place of 1: higher VDE subject" in text
    assert "Not measured" not in text


@pytest.mark.parametrize(
    ("free", "call", "said"),
    [
        (1.0, "today", "times the seconds of `rolling`: less."),
        (3.0, "today", "times the seconds of `rolling`: **more**."),
        (2.0, "today", "1 (1 to 1) times the seconds of `rolling`: no saving is shown."),
        (1.0, "tomorrow", "not compared: no seed of it and `rolling` was sampled in turns."),
    ],
)
def test_time_is_compared_within_one_call_alone(free, call, said):
    runs = [run_of("rolling", kept=1.0), run_of("dynamic-0.97", free=free, call=call, kept=0.4)]
    text = sections(*runs)["sparse tokens"]
    assert said in text
    assert "`dynamic-0.97` keeps 40% of a shown chunk's tokens, from 20% in layer 0 to 60% in layer 2." in text
    assert "**Not measured yet**: `dynamic-0.98`, `semantic-0.97`, `semantic-0.98`." in text


def test_seeds_of_several_calls_are_compared_where_one_call_sampled_both():
    runs = [
        run_of("rolling", free=2.0), run_of("rolling", seed=1, free=1.0, call="tomorrow"),
        run_of(OURS, free=1.0), run_of(OURS, seed=1, free=9.0),
    ]  # fmt: skip
    ratio = summary_of(*runs)["questions"]["seconds"][OURS]
    assert ratio["mean"] == pytest.approx((1 + 2 + 3) / (2 + 3 + 4))


def test_lines_of_older_versions_do_not_say_which_call_sampled_them():
    runs = [run_of("rolling", call=None), run_of(OURS, free=1.0, call=None)]
    assert summary_of(*runs)["questions"]["seconds"] == {OURS: None}


def test_phases_are_thirds_of_the_chunks_that_are_sampled():
    assert phase_chunks(12) == {"early": [1, 2, 3, 4], "middle": [5, 6, 7, 8], "late": [9, 10, 11]}
    assert phase_chunks(2) == {"early": [1], "middle": [], "late": []}
    found = summary_of(run_of(OURS, level=1.0, rise=0.5))["questions"]["phases"][OURS]["clarity"]
    assert [found[phase]["mean"] for phase in PHASES] == pytest.approx([2.01, 3.26, 4.26])  # chunks 1-3, 4-5, 6-7
    assert found["rise"]["mean"] == pytest.approx(0.5 * (6.5 - 2))


def test_growth_is_told_cell_by_cell_and_between_the_two_that_are_claimed():
    text = sections(run_of(OURS, rise=-0.1), run_of(BASELINE, rise=0.1), run_of(TRUTH))["chunk to chunk"]
    assert f"- `{OURS}`: lower subject, background, motion, clarity; nothing shown in protagonist seen" in text
    assert f"- `{BASELINE}`: higher subject" in text
    assert "- *the true videos*: nothing shown in subject" in text
    assert f"In late chunks, `{OURS}` against `{BASELINE}`: lower subject" in text
    assert f"| recall error | `{OURS}` | – | 1.01 (1 to 1.02) | – |" in text
    assert "**-0.45 (-0.45 to -0.45)**" in text


def test_new_places_are_told_apart_from_returns():
    """Stories differ in nothing here, so an interval that leaves 0 out is a point."""
    found = summary_of(run_of(OURS, new=0.25), run_of(TRUTH))["questions"]["places"]
    assert found[OURS]["visible"]["new"]["mean"] == 0.25
    assert found[OURS]["visible"]["returns"]["mean"] == 1.0
    assert found[OURS]["visible"]["difference"]["mean"] == -0.75
    text = sections(run_of(OURS, new=0.25), run_of(TRUTH))["place is new"]
    assert f"- `{OURS}`: lower protagonist seen; nothing shown in direction as prompted." in text
    assert "- *the true videos*: nothing shown in protagonist seen, direction as prompted." in text


def test_plots_are_drawn_of_what_is_there(tmp_path):
    levels = {BASELINE: 2.0, CACHE: 1.2, LOSSES: 1.6, OURS: 1.0, TRUTH: 1.1}
    links = draw_questions(tmp_path, summary_of(*(run_of(label, level=x) for label, x in levels.items())), "study")
    assert sorted(links.values()) == [f"study_questions-{name}.png" for name in ("kept", "phases", "swaps")]
    assert all((tmp_path / link).stat().st_size > 1000 for link in links.values())
    assert draw_questions(tmp_path, summary_of()) == {}


def test_a_summary_of_an_older_version_is_refused_in_one_line(tmp_path, capsys):
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({"cells": {}, "claim": {"holds": None, "missing": []}, "missing": {}, "stories": 3}))
    with pytest.raises(SystemExit) as ended:
        run_study(command, "p", [str(tmp_path / "page.md"), "--title", "Ablation", "--summary", str(file)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "summary.json: a summary of an older version; run `python -m studies.ablation` on its folder" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "page.md").exists()
