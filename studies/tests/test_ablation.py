"""The ablation trains what its cells say, its figures are paired by story, and it goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from bdiff_bench.memory.colours import at_places
from bdiff_bench.memory.figures import NUM_DRAWS
from bdiff_train.transformer.story_sampler import FIRST_STORY
from kvbank import RecallTrace
from studies.ablation import CELLS, AblationConfig, Cell, PostTraining, bench_ablation, tiny_config
from studies.ablation import films as ablation_films
from studies.ablation import results as ablation_results
from studies.ablation import run as ablation_run
from studies.ablation.cells import BASE, BASELINE, OURS, SWEEP, TABLES, TRUTH, choose
from studies.ablation.figures import CLAIMED, MEASURES, origins, read_runs, summarise, verdict
from studies.ablation.films import DRIFTS, FilmJob, changes, film_line, forgetful
from studies.ablation.page import ablation_parts
from studies.ablation.progress import Clock, FractionFile
from studies.ablation.results import compact
from studies.ablation.training import Run, training_config
from studies.ablation.write_page import command as page_command
from studies.command import run_study, study
from vde_metrics import Clarity, vde

WINDOW = 4

# Cells


def test_tables_5_and_6_share_the_paper_s_own_cell():
    assert set(TABLES["5"]) & set(TABLES["6"]) == {OURS}
    assert set(TABLES["claim"]) == {OURS, BASELINE} <= set(TABLES["6"])
    assert len({(c.policy, c.coverage, c.loss, c.weight, c.gamma, c.game) for c in CELLS.values()}) == len(CELLS)
    assert {label for table in TABLES.values() for label in table} | set(SWEEP) == set(CELLS)


def test_one_cell_is_sampled_without_a_cache_at_the_budget_of_the_others():
    (cell,) = (cell for cell in CELLS.values() if cell.sampler == "overlap")
    assert cell.label in TABLES["5"]
    assert (cell.policy, cell.loss) == ("rolling", "flow-matching")


def test_cells_are_chosen_by_table_and_label():
    assert [cell.label for cell in choose(("claim", "6"), sweep=False, only=(OURS, "naive"))] == [OURS, "naive"]
    assert len(choose(("5", "6"), sweep=True)) == len(CELLS)
    with pytest.raises(ValueError, match="no cell 'naive' here; expected some of overlap, rolling, sink"):
        choose(("5",), sweep=False, only=("naive",))


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS.values() if cell.loss is not None], ids=lambda cell: cell.label
)
def test_a_cell_is_trained_as_it_is_sampled_and_as_long_as_the_others(cell: Cell, tmp_path):
    config = AblationConfig(out=tmp_path, training=PostTraining(steps=30))
    made = training_config(config, Run(cell=cell, seed=2))
    assert (made.policy, made.coverage, made.seed) == (cell.policy, cell.coverage, 2)
    turns = 1 if made.self_forcing is None else made.self_forcing.judge_steps + 1
    assert made.max_steps == 30 * turns
    forcing = (made.block_forcing is not None, made.self_forcing is not None)
    expected = {
        "flow-matching": (False, False), "block-forcing": (True, False), "self-forcing": (False, True),
        "block-self-forcing": (True, True),
    }  # fmt: skip
    assert forcing == expected[cell.loss]
    if made.block_forcing is not None:
        assert (made.block_forcing.weight, made.block_forcing.gamma) == (cell.weight, cell.gamma)
    if made.self_forcing is not None:
        assert made.self_forcing.weight == cell.game
    policy, similarity = cell.make_policy(), torch.rand(30, generator=torch.Generator().manual_seed(0)).tolist()
    assert len(policy.select(30, similarity)) == made.batch.context == 4
    assert policy.coverage == cell.coverage


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tables": ("7",)}, "tables are .'7'.*expected some of 5, 6, claim"),
        ({"num_seeds": 0}, "num_seeds is 0; expected at least 1"),
        ({"num_chunks": 1}, "num_chunks is 1; expected at least 2"),
        ({"bases": (Path("one"),)}, "1 bases for 3 seeds"),
        ({"cells": ("none",)}, "no cell 'none' here"),
    ],
)
def test_a_wrong_config_is_told(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        AblationConfig(out=tmp_path, **options)


def test_a_wrong_post_training_is_told():
    with pytest.raises(ValueError, match="film_chunks is 9, chunks 6"):
        PostTraining(film_chunks=9, chunks=6)
    with pytest.raises(ValueError, match="steps is 0"):
        PostTraining(steps=0)


# Films


@pytest.fixture(scope="module")
def story():
    return storyworld.render(FIRST_STORY, 9, richness=0)  # chunks 7 and 8 show the place of 0 again


@pytest.fixture(scope="module")
def true(story):
    return film_line(story.frames, story.frames, story, FilmJob(cell=TRUTH, seed=0, story=FIRST_STORY))


def test_the_truth_recalls_everything_and_is_as_told(story, true):
    assert [record["gap"] for record in true["recall"]] == [7, 1]
    assert all(record["colour"] == 0 for record in true["recall"])
    assert (true["captions"]["visible"], true["captions"]["direction"]) == (1.0, 1.0)
    assert true["captions"]["direction_by_chunk"] == [1] * 9
    scores = [
        Clarity().score(story.frames[:, torch.as_tensor(story.truth.chunk_of_frame == chunk)]) for chunk in range(9)
    ]
    assert true["drift"]["clarity"]["scores"] == pytest.approx(scores, rel=1e-5)
    assert true["drift"]["clarity"]["vde"] == pytest.approx(vde(scores), rel=1e-5)
    assert true["drift"]["clarity"]["normalized"] == pytest.approx(vde(scores, normalize=True), rel=1e-5)


def test_a_film_that_forgets_shows_another_place_on_each_return_and_nothing_else(story):
    other, back = forgetful(story), story.truth.chunk_of_frame >= 7
    assert torch.equal(other.frames[:, ~back], story.frames[:, ~back])
    places = story.truth.backgrounds.shape[0]
    elsewhere = at_places(story.truth, (story.truth.place + 1) % places).background_at(range(len(back))).transpose(0, 1)
    actors = (story.truth.subject & story.truth.visible[:, None, None]) | story.truth.companion_mask
    assert torch.equal(other.frames[:, back], torch.where(actors, story.frames, elsewhere)[:, back])
    line = film_line(other.frames, other.frames, story, FilmJob(cell=TRUTH, seed=0, story=FIRST_STORY))
    assert all(record["colour"] > 0.05 for record in line["recall"])
    assert line["captions"]["place"] == 0.0
    assert (line["captions"]["visible"], line["captions"]["direction"]) == (1.0, 1.0)


def test_a_film_knows_which_of_its_places_are_new(story, true):
    assert true["places"] == story.truth.place.tolist()
    assert true["new_place"] == [1] * 7 + [0] * 2


def test_changes_are_shares_of_the_first_score():
    assert changes([None, 2.0, 1.0, None, 5.0]) == [None, 0.0, 0.5, None, 1.5]
    assert changes([0.0, 2.0]) == changes([None, None]) == [None, None]


def test_what_a_film_was_shown_is_kept_by_layer_and_by_chunk():
    """Two layers and chunks of 10 tokens: the third chunk is shown 5 + 10 by one layer, 2 + 4 by the other."""
    trace = [
        RecallTrace(index=index, chunks=chunks, kinds=("recent",) * len(chunks), similarity=(None,) * len(chunks),
                    spans=spans, shares=(), kept=())
        for index, chunks, spans in ((0, (), ()), (1, (0,), ((5,), (3,))), (2, (0, 1), ((5, 10), (2, 4))))
    ]  # fmt: skip
    teller = SimpleNamespace(
        vae=SimpleNamespace(config=SimpleNamespace(spatial_stride=8)),
        model=SimpleNamespace(config=SimpleNamespace(num_tokens=lambda frames, height, width: 10)),
        sampling=SimpleNamespace(latent_frames=5),
    )
    story = SimpleNamespace(frames=torch.zeros(3, 1, 64, 64))
    shown = ablation_films._shown(teller, story, SimpleNamespace(trace=trace), window=2)
    assert shown["tokens_by_chunk"] == [0.0, 4.0, 10.5]
    assert shown["tokens"] == 10.5
    assert shown["chunks_by_chunk"] == [[], [0], [0, 1]]
    assert shown["kept"] == pytest.approx([(5 + 5 + 10) / 30, (3 + 2 + 4) / 30])


def test_another_protagonist_is_drift_of_the_subject_and_no_error_of_recall(story, true):
    frames, late = story.frames.clone(), story.truth.chunk_of_frame >= 3
    masks = (story.truth.subject & late[:, None, None])[None].expand_as(frames)
    frames[masks] = -frames[masks]
    line = film_line(frames, frames, story, FilmJob(cell="rolling", seed=0, story=FIRST_STORY))
    assert line["drift"]["subject"]["vde"] > 1.5 * true["drift"]["subject"]["vde"]
    assert [record["colour"] for record in line["recall"]] == [0.0, 0.0]
    assert line["drift"]["subject"]["scores"][:3] == true["drift"]["subject"]["scores"][:3]
    assert line["captions"]["visible"] < 0.7


# Figures


def film(story, *, vde=1.0, recall=((5, 0.1),), seen=1.0, seed=0, cell=OURS):
    """A line whose measures are given: one number for all drifts, and (gap, error) of returns."""
    returns = [{"chunk": 2 + i, "gap": gap, "colour": error, "palette": error} for i, (gap, error) in enumerate(recall)]
    scores = {"scores": [2.0, 1.0, None], "changes": [0.0, 0.5, None]}
    drift = {metric: {"vde": vde, "normalized": vde} | scores for metric in DRIFTS}
    captions = {
        "visible": seen, "direction": 1.0, "place": None, "visible_by_chunk": [1.0, seen, None],
        "direction_by_chunk": [1, 1, 0],
    }  # fmt: skip
    return {
        "cell": cell, "seed": seed, "story": story, "drift": drift, "frozen": False, "recall": returns,
        "palette": returns, "captions": captions, "tokens": 100.0, "new_place": [1, 1, 0],
        "kept": [0.25, 0.75],
        "seconds": {"free": 2.0, "given": 1.0, "measuring": 1.0},
    }  # fmt: skip


def run_of(label, films, *, seed=0):
    training = {"steps": 5, "held_out_loss": 0.5, "seconds": 60.0, "commit": None}
    machine = {"bdiff": "1", "torch": "2", "processor": "slow"}
    return {
        "cell": {"label": label}, "seed": seed, "config": {}, "films": films, "training": training, "machine": machine,
    }  # fmt: skip


def summary_of(runs, *, stories, seeds=(0,), wanted=()):
    return summarise(runs, stories=stories, seeds=seeds, window=WINDOW, wanted=wanted)


errors = st.one_of(st.none(), st.floats(0.01, 5))
films_of_story = st.tuples(errors, st.lists(st.tuples(st.integers(1, 9), errors), max_size=4))


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_intervals_are_those_of_the_slow_way_and_paired_by_story(data):
    """The slow way makes the whole list of values that each draw of stories has, cell by cell."""
    num_stories, seeds = data.draw(st.integers(2, 5)), data.draw(st.sampled_from([(0,), (0, 1)]))
    labels = (OURS, "rolling")
    told = {label: [[data.draw(films_of_story) for _ in range(num_stories)] for _ in seeds] for label in labels}
    runs = [
        run_of(
            label, [film(s, vde=error, recall=recall, seed=seed) for s, (error, recall) in enumerate(films)], seed=seed
        )
        for label in labels
        for seed, films in zip(seeds, told[label], strict=True)
    ]
    cells = summary_of(runs, stories=range(num_stories), seeds=seeds)["cells"]
    draws = np.random.default_rng(0).integers(num_stories, size=(NUM_DRAWS, num_stories))

    def values(label, story, measure):
        films = [of_seed[story] for of_seed in told[label]]
        if measure == "subject":
            return [error for error, _ in films if error is not None]
        return [e for _, recall in films for gap, e in recall if e is not None and (gap > WINDOW)]

    for measure in ("subject", "recall"):
        by_story = {label: [values(label, s, measure) for s in range(num_stories)] for label in labels}
        some = {label: [value for values in by_story[label] for value in values] for label in labels}
        for label in labels:
            found = cells[label]["measures"].get(measure)
            assert (found is None) == (not some[label])
            if found is not None:
                assert found["mean"] == pytest.approx(np.mean(some[label]))
        if not all(some.values()):
            continue
        means = {label: [] for label in labels}
        for draw in draws[:400]:
            for label in labels:
                drawn = [value for story in draw for value in by_story[label][story]]
                means[label].append(np.mean(drawn) if drawn else np.nan)
        quick = {label: _means_of_draws(by_story[label], draws) for label in labels}
        for label in labels:
            np.testing.assert_allclose(quick[label][:400], means[label], rtol=1e-9)
            low, high = np.nanquantile(quick[label], (0.025, 0.975))
            assert cells[label]["measures"][measure]["low"] == pytest.approx(low)
            assert cells[label]["measures"][measure]["high"] == pytest.approx(high)
        difference = quick["rolling"] - quick[OURS]
        found = cells["rolling"]["against_ours"][measure]
        assert (found["low"], found["high"]) == pytest.approx(tuple(np.nanquantile(difference, (0.025, 0.975))))


def _means_of_draws(by_story, draws):
    """Means of each draw by counting how often it holds each story."""
    counts = np.stack([(draws == story).sum(1) for story in range(len(by_story))], axis=1)
    totals, sizes = np.array([sum(v) for v in by_story]), np.array([len(v) for v in by_story])
    with np.errstate(invalid="ignore"):
        return counts @ totals / (counts @ sizes)


def test_pairing_takes_out_what_all_cells_find_hard():
    """Stories differ far more than cells do: own intervals overlap, the paired difference is a point."""
    hard = [1.0, 2.0, 4.0, 8.0]
    runs = [
        run_of(OURS, [film(s, vde=error) for s, error in enumerate(hard)]),
        run_of(BASELINE, [film(s, vde=error + 0.25) for s, error in enumerate(hard)]),
    ]
    summary = summary_of(runs, stories=range(4))
    paired = summary["cells"][BASELINE]["against_ours"]["subject"]
    assert (paired["low"], paired["mean"], paired["high"]) == pytest.approx((0.25, 0.25, 0.25))
    assert summary["claim"]["measures"]["subject"]["verdict"] == "overlap"


def test_table_6_says_what_each_loss_made_of_the_base():
    runs = [
        run_of(label, [film(s, vde=by) for s in range(4)]) for label, by in ((BASE, 2.0), ("naive", 1.5), (OURS, 3.0))
    ]
    summary = summary_of(runs, stories=range(4))
    cells = summary["cells"]
    assert cells["naive"]["against_base"]["subject"]["mean"] == pytest.approx(-0.5)
    assert "against_base" not in cells[BASE]
    page = _opening(summary)
    after = page.split(f"Difference to `{BASE}`")[1].split("![")[0]
    assert f"| {CELLS['naive'].title} | **-0.5 (-0.5 to -0.5)** |" in after
    assert f"| {CELLS[OURS].title} | **1 (1 to 1)** |" in after
    assert page.count(f"Difference to `{BASE}`") == 1


def test_intervals_that_only_touch_show_nothing():
    one, other = {"low": 0.0, "high": 1.0, "stories": 3}, {"low": 1.0, "high": 2.0, "stories": 3}
    assert verdict(one, other) == verdict(other, one) == "overlap"
    assert verdict(one, other | {"low": 1.01}) == "below"
    assert verdict(other | {"low": 1.01}, one) == "above"
    assert verdict(one | {"stories": 1}, other) == verdict(None, other) == "unmeasured"


def claimed(ours, theirs, **options):
    """What becomes of the claim where films differ little within a cell."""
    runs = [
        run_of(label, [film(s, vde=e + s / 100, recall=[(6, e + s / 100)]) for s in range(3)])
        for label, e in ((OURS, ours), (BASELINE, theirs))
        if e is not None
    ]
    return summary_of(runs, stories=range(3), **options)


def test_the_claim_is_told_as_it_is():
    assert claimed(1.0, 2.0)["claim"]["holds"] is True
    assert claimed(2.0, 1.0)["claim"]["holds"] is claimed(1.0, 1.0)["claim"]["holds"] is False
    pages = {
        name: _opening(summary)
        for name, summary in {
            "lower": claimed(1.0, 2.0), "higher": claimed(2.0, 1.0), "same": claimed(1.0, 1.0),
            "absent": claimed(1.0, None, wanted=TABLES["claim"]),
        }.items()
    }  # fmt: skip
    assert "**It holds** on 1 seed and 3 stories, which are too few to rest on: all 4 are lower" in pages["lower"]
    assert "**It does not hold**" in pages["higher"]
    assert "the opposite of what is claimed" in pages["higher"]
    assert "Intervals overlap, so that nothing is shown: VDE subject, VDE background" in pages["same"]
    assert f"**Not measured yet**: there is no complete run of `{BASELINE}`" in pages["absent"]
    assert f"**Missing**: `{BASELINE}` (no seed)" in pages["absent"]


def _opening(summary):
    config = {
        "bases": {"0": "a"}, "training": {
            "steps": 5, "batch": 4, "stories": 8, "learning_rate": 1e-4, "film_chunks": 6, "film_steps": 4,
        }, "sampling": {"steps": 4, "shift": 3.0, "guidance": 1.0, "noise": "fresh", "richness": 0}, "num_chunks": 12,
    }  # fmt: skip
    return "\n\n".join(ablation_parts({"config": config, "machines": [], "commits": []} | summary, pictures={}))


def test_the_page_says_where_less_is_not_nearer_to_the_truth():
    runs = [
        run_of(label, [film(s, vde=error, recall=[(6, error)]) for s in range(3)])
        for label, error in ((OURS, 1.0), (BASELINE, 2.0))
    ]
    plain = _opening(summary_of(runs, stories=range(3)))
    true = _opening(summary_of([*runs, run_of(TRUTH, [film(s, vde=1.5) for s in range(3)])], stories=range(3)))
    assert "The true films have more" not in plain
    assert "**The true films have more** than one of the two in VDE subject (1.5), VDE background (1.5)" in true
    assert "recall error (" not in true


def test_the_page_says_what_measures_see_of_forgetting():
    truth = [film(s, vde=2.0, recall=[(6, 0.1)]) | {"forgetful": film(s, vde=3.0, recall=[(6, 0.4)])} for s in range(3)]
    summary = summary_of([run_of(TRUTH, truth)], stories=range(3))
    assert summary["forgetting"]["subject"]["difference"]["mean"] == 1.0
    assert summary["forgetting"]["recall"]["forgetful"]["mean"] == pytest.approx(0.4)
    page = _opening(summary)
    assert "| VDE subject | 2 (2 to 2) | 3 (3 to 3) | **1 (1 to 1)** | 1.50 |" in page
    assert "| recall error | 0.1 (0.1 to 0.1) | 0.4 (0.4 to 0.4) | **0.3 (0.3 to 0.3)** | 4.00 |" in page


def test_true_films_of_an_older_version_say_nothing_of_forgetting():
    summary = summary_of([run_of(TRUTH, [film(s) for s in range(3)])], stories=range(3))
    assert summary["forgetting"] == {}
    assert "forgetting" not in _opening(summary)


def test_a_run_that_has_not_told_every_story_is_missing_and_named():
    runs = [
        run_of(OURS, [film(s) for s in range(3)]),
        run_of(OURS, [film(s, seed=1) for s in range(2)], seed=1),
        run_of("sink", [film(s) for s in range(2)]),
    ]
    summary = summary_of(runs, stories=range(3), seeds=(0, 1), wanted=(OURS, "sink", "naive"))
    assert summary["missing"] == {OURS: [1], "sink": [0, 1], "naive": [0, 1]}
    assert list(summary["cells"]) == [OURS]
    fewer = summary_of(runs, stories=range(2), seeds=(0, 1), wanted=(OURS,))
    assert fewer["cells"][OURS]["seeds"] == [0, 1]
    assert fewer["missing"] == {"sink": [1]}
    assert fewer["cells"]["sink"]["kept"] == [0.25, 0.75]


def test_films_whose_error_is_infinite_are_counted_and_left_out():
    films = [film(0, vde=None), film(1, vde=2.0), film(2, vde=4.0)]
    summary = summary_of([run_of(OURS, films)], stories=range(3))
    assert summary["cells"][OURS]["measures"]["motion"]["mean"] == 3.0
    assert summary["cells"][OURS]["infinite"] == dict.fromkeys(DRIFTS, 1)
    assert f"`{OURS}` motion 1" in _opening(summary)


def test_no_cell_is_compared_on_seeds_that_the_other_lacks():
    ours = [run_of(OURS, [film(s, vde=1.0 + 9 * seed, seed=seed) for s in range(3)], seed=seed) for seed in (0, 1)]
    other = run_of(BASELINE, [film(s, vde=2.0) for s in range(3)])
    summary = summary_of([*ours, other], stories=range(3), seeds=(0, 1))
    assert summary["claim"]["seeds"] == [0]
    assert summary["claim"]["measures"]["subject"]["difference"]["mean"] == pytest.approx(-1.0)
    assert summary["cells"][BASELINE]["against_ours"]["subject"]["mean"] == pytest.approx(1.0)
    assert summary["cells"][OURS]["measures"]["subject"]["by_seed"] == [1.0, 10.0]


def test_curves_are_relative_changes_against_the_first_chunk():
    cell = summary_of([run_of(OURS, [film(0), film(1)])], stories=range(2))["cells"][OURS]
    assert cell["curves"]["clarity"] == [0.0, 0.5, None]
    assert cell["measures"]["visible"]["mean"] == 1.0
    assert "place" not in cell["measures"]


def test_four_digits_change_no_figure_that_matters():
    """Means and bounds keep their first three digits; so do differences, as shares of what they are differences of."""
    random = np.random.default_rng(0)

    def films(seed, spread):
        told = []
        for story in range(12):
            line = film(story, vde=0.0, seed=seed, recall=((6, float(random.lognormal(-4, spread))),))
            for metric in DRIFTS:
                scores = (random.lognormal(3, 0.01, 3)).tolist()
                line["drift"][metric] = {"vde": float(random.lognormal(-2, spread)), "scores": scores}
                line["drift"][metric]["changes"] = changes(scores)
            line["captions"]["visible"] = float(random.uniform())
            told.append(line)
        return told

    exact = [run_of(label, films(seed, 0.5), seed=seed) for label in (OURS, BASELINE) for seed in (0, 1)]
    rounded = [run | {"films": compact(run["films"])} for run in exact]
    assert rounded[0]["films"] != exact[0]["films"]
    one, other = (summary_of(runs, stories=range(12), seeds=(0, 1)) for runs in (exact, rounded))
    for label in (OURS, BASELINE):
        assert other["cells"][label]["curves"]["subject"] == pytest.approx(
            one["cells"][label]["curves"]["subject"], rel=1e-3
        )
        for name, figure in one["cells"][label]["measures"].items():
            for part in ("mean", "low", "high", "by_seed"):
                assert other["cells"][label]["measures"][name][part] == pytest.approx(figure[part], rel=1e-3)
    for name, row in one["claim"]["measures"].items():
        off = other["claim"]["measures"][name]["difference"]["mean"] - row["difference"]["mean"]
        assert abs(off) < 1e-3 * row["ours"]["mean"]


def test_a_run_of_32_films_of_12_chunks_is_a_small_file(true):
    line = true | {"kept": [1 / 3] * 6, "tokens_by_chunk": [1 / 3] * 12, "chunks_by_chunk": [[1, 2, 3, 4]] * 12}
    assert len(json.dumps(compact(line), separators=(",", ":"))) * 12 / 9 * 32 < 70_000


def test_the_page_names_the_machines_and_commits_of_the_runs():
    machines = [{"bdiff": "1", "torch": "2", "processor": name} for name in ("slow", "fast", "slow")]
    runs = [
        run_of(label, [film(0)]) | {"machine": machine, "commit": commit}
        for label, machine, commit in zip((OURS, BASELINE, "sink"), machines, ("b", None, "b"), strict=True)
    ]
    runs[0]["training"]["commit"] = "a"
    found = origins([*runs, run_of(TRUTH, [film(0)]) | {"machine": machines[0], "commit": "c", "training": None}])
    assert [machine["processor"] for machine in found["machines"]] == ["fast", "slow"]
    assert found["commits"] == ["a", "b", "c"]
    page = _opening(summary_of(runs, stories=range(1)) | found)
    assert "made by bdiff 1, torch 2 on fast; bdiff 1, torch 2 on slow; commits `a`, `b`, `c`." in page


# The whole


@pytest.fixture
def tiny(tiny_model, tmp_path):
    return tiny_config(AblationConfig(out=tmp_path / "whole", tables=("claim",), model=tiny_model))


def without_times(folder):
    """The JSON of every run, but for how long things took and what was checked out meanwhile."""
    runs = read_runs(folder)
    for run in runs:
        del run["commit"]
        for name in ("seconds", "commit"):
            (run["training"] or {}).pop(name, None)
        for line in run["films"]:
            line.pop("seconds")
            line.pop("call")
    return runs


class Countdown(Clock):
    """Time is over when it has been asked for so many times."""

    def __init__(self, asked):
        super().__init__(None)
        self.left = asked

    def over(self):
        self.left -= 1
        return self.left < 0


def test_a_bench_that_is_stopped_twice_ends_with_the_figures_of_one_that_is_not(tiny, monkeypatch):
    summary, left = bench_ablation(tiny)
    assert not left
    assert str(left) == "nothing"
    assert list(summary["cells"]) == [OURS, BASELINE, TRUTH]
    parts = replace(tiny, out=tiny.out.with_name("parts"))
    told = []
    for asked in (6, 14, 10_000):
        monkeypatch.setattr(ablation_run, "Clock", lambda minutes, asked=asked: Countdown(asked))
        told.append(bench_ablation(parts)[1])
    # stopped in the first training, and in the middle of the films
    assert [(left.trainings, bool(left)) for left in told] == [(2, True), (0, True), (0, False)]
    assert 0 < told[1].films < told[0].films == 6
    assert str(told[0]) == "2 post-trainings, 6 films"
    whole = without_times(tiny.out)
    assert [run["cell"]["label"] for run in whole] == [BASELINE, OURS, TRUTH]
    assert without_times(parts.out) == whole
    with pytest.raises(ValueError, match="another num_chunks; choose another folder"):
        bench_ablation(replace(parts, num_chunks=4))
    before = json.loads((parts.out / "settings.json").read_text())
    del before["sampling"]["seniority"]  # as an earlier version wrote it
    (parts.out / "settings.json").write_text(json.dumps(before))
    monkeypatch.undo()
    results = {file: file.read_bytes() for file in (parts.out / "results").iterdir()}
    made = origins(read_runs(parts.out))
    monkeypatch.setattr(ablation_results, "commit", lambda: "later")
    monkeypatch.setattr(ablation_results, "describe_machine", lambda: {"processor": "another"})
    summary, _ = bench_ablation(parts)
    assert {file: file.read_bytes() for file in results} == results
    assert {"machines": summary["machines"], "commits": summary["commits"]} == made
    summary, _ = bench_ablation(replace(parts, cells=("naive",), tables=("6",), minutes=1e-9))
    assert summary["missing"] == {"naive": [0]}


def test_the_command_measures_two_cells_and_pages_come_of_the_json_alone(tiny_model, tmp_path, capsys):
    out = tmp_path / "bench"
    with pytest.raises(SystemExit) as ended:
        run_study(study("ablation"), "studies.ablation", ["--tiny", "--table", "5", "--table", "6", "--cells", "naive",
                  "--cells", "overlap", "--model", str(tiny_model), "--out", str(out)])  # fmt: skip
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((out / "summary.json").read_text())
    assert "films: 6/6" in printed.err
    run = json.loads((out / "results" / "naive-seed0.json").read_text())
    assert run["seed"] == 0
    assert "commit" in run
    assert run["cell"]["loss"] == "flow-matching"
    assert run["config"]["training"]["steps"] == run["training"]["steps"] == 2
    assert len(run["films"]) == 2
    for shown in run["films"]:
        assert len(shown["kept"]) == 2
        assert all(0 < share <= 1 for share in shown["kept"])
        assert shown["chunks_by_chunk"] == [[], [0]]
        assert shown["tokens_by_chunk"][0] == 0 < shown["tokens_by_chunk"][1]
        assert shown["seconds"]["free"] > 0
    assert len({shown["call"] for shown in run["films"]}) == 1
    films = json.loads((out / "results" / "overlap-seed0.json").read_text())["films"]
    assert all(line["kept"] == [1.0, 1.0] and line["chunks_by_chunk"] == [[], [0]] for line in films)
    true = json.loads((out / "results" / "truth.json").read_text())["films"][0]
    assert true["kept"] is true["tokens_by_chunk"] is true["tokens"] is None
    assert not (out / "runs" / "naive-seed0" / "checkpoint.pt").exists()
    own = (out / "page.md").read_text()
    mean = json.loads(printed.out)["cells"]["naive"]["measures"]["clarity"]["mean"]
    assert f"{mean:.4g} (" in own
    assert "VDE aesthetic is not measured" in own
    assert own.index("**Claim**") < own.index("## ")

    page = tmp_path / "page.md"
    with pytest.raises(SystemExit) as ended:
        run_study(page_command, "p", [str(page), "--title", "Ablation", "--summary", str(out / "summary.json")])
    assert ended.value.code == 0
    asked = (out / "questions.md").read_text().split("\n\n", 1)[1]
    both = page.read_text().split("\n\n", 1)[1].replace("](page_", "](")
    assert both == own.split("\n\n", 1)[1] + "\n" + asked
    assert "](questions-phases.png)" in asked
    assert "**Not measured yet**: `rolling-self-forcing`, `self-forcing`, `rolling`, `semantic-0.98`." in asked
    assert (tmp_path / "page_questions-phases.png").stat().st_size > 1000
    assert (tmp_path / "page_table-6-curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "rollin"], "no cell 'rollin' here; expected some of overlap, rolling"),
        (["--base", "nowhere"], "1 bases for 3 seeds"),
        (["--base", "nowhere", "--num-seeds", "1"], "nowhere"),
        (["--model", "nowhere"], "nowhere"),
        (["--minutes", "0"], "not in the range"),
        (["--tiny", "--num-chunks", "9"], "--tiny has sizes of its own: leave --num-chunks away"),
        (["--table", "4"], "'4' is not one of"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_study(study("ablation"), "studies.ablation", ["--out", "bench", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("bench").exists()


def test_runs_that_are_none_are_refused(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "naive-seed0.json").write_text('{"cell": {}}')
    with pytest.raises(ValueError, match=r"naive-seed0\.json: not a run of this version of studies.ablation"):
        read_runs(tmp_path)


def test_another_process_reads_how_far_a_training_is(tmp_path):
    FractionFile(tmp_path).tell(0.25)
    assert FractionFile(tmp_path).read() == 0.25
    assert FractionFile(tmp_path / "nowhere").read() == 0.0


def test_a_clock_without_a_limit_never_stops():
    assert not Clock(None).over()
    assert Clock(0.0).over()
    assert set(CLAIMED) <= set(MEASURES)
