"""Figures are paired by story, and the page says what they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_bench.harness import NUM_DRAWS
from studies.ablation.configurations import BASE, BASELINE, CONFIGURATIONS, OURS, TABLES, TRUTH
from studies.ablation.figures import CLAIMED, MEASURES, summarise, verdict
from studies.ablation.page import ablation_parts
from studies.ablation.results import compact
from studies.ablation.run_files import origins
from studies.ablation.videos import DRIFTS, changes

WINDOW = 4


def line(story, *, vde=1.0, recall=((5, 0.1),), seen=1.0, seed=0, cell=OURS):
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
lines_of_story = st.tuples(errors, st.lists(st.tuples(st.integers(1, 9), errors), max_size=4))


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_intervals_are_those_of_the_slow_way_and_paired_by_story(data):
    """The slow way makes the whole list of values that each draw of stories has, one by one."""
    num_stories, seeds = data.draw(st.integers(2, 5)), data.draw(st.sampled_from([(0,), (0, 1)]))
    labels = (OURS, "rolling")
    told = {label: [[data.draw(lines_of_story) for _ in range(num_stories)] for _ in seeds] for label in labels}
    runs = [
        run_of(
            label, [line(s, vde=error, recall=recall, seed=seed) for s, (error, recall) in enumerate(films)], seed=seed
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


def test_pairing_takes_out_what_all_configurations_find_hard():
    """Stories differ far more than configurations do: own intervals overlap, the paired difference is a point."""
    hard = [1.0, 2.0, 4.0, 8.0]
    runs = [
        run_of(OURS, [line(s, vde=error) for s, error in enumerate(hard)]),
        run_of(BASELINE, [line(s, vde=error + 0.25) for s, error in enumerate(hard)]),
    ]
    summary = summary_of(runs, stories=range(4))
    paired = summary["cells"][BASELINE]["against_ours"]["subject"]
    assert (paired["low"], paired["mean"], paired["high"]) == pytest.approx((0.25, 0.25, 0.25))
    assert summary["claim"]["measures"]["subject"]["verdict"] == "overlap"


def test_table_6_says_what_each_loss_made_of_the_base():
    runs = [
        run_of(label, [line(s, vde=by) for s in range(4)]) for label, by in ((BASE, 2.0), ("naive", 1.5), (OURS, 3.0))
    ]
    summary = summary_of(runs, stories=range(4))
    cells = summary["cells"]
    assert cells["naive"]["against_base"]["subject"]["mean"] == pytest.approx(-0.5)
    assert "against_base" not in cells[BASE]
    page = _opening(summary)
    after = page.split(f"Difference to `{BASE}`")[1].split("![")[0]
    assert f"| {CONFIGURATIONS['naive'].title} | **-0.5 (-0.5 to -0.5)** |" in after
    assert f"| {CONFIGURATIONS[OURS].title} | **1 (1 to 1)** |" in after
    assert page.count(f"Difference to `{BASE}`") == 1


def test_intervals_that_only_touch_show_nothing():
    one, other = {"low": 0.0, "high": 1.0, "stories": 3}, {"low": 1.0, "high": 2.0, "stories": 3}
    assert verdict(one, other) == verdict(other, one) == "overlap"
    assert verdict(one, other | {"low": 1.01}) == "below"
    assert verdict(other | {"low": 1.01}, one) == "above"
    assert verdict(one | {"stories": 1}, other) == verdict(None, other) == "unmeasured"


def claimed(ours, theirs, **options):
    """What becomes of the claim where videos differ little within a configuration."""
    runs = [
        run_of(label, [line(s, vde=e + s / 100, recall=[(6, e + s / 100)]) for s in range(3)])
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
        run_of(label, [line(s, vde=error, recall=[(6, error)]) for s in range(3)])
        for label, error in ((OURS, 1.0), (BASELINE, 2.0))
    ]
    plain = _opening(summary_of(runs, stories=range(3)))
    true = _opening(summary_of([*runs, run_of(TRUTH, [line(s, vde=1.5) for s in range(3)])], stories=range(3)))
    assert "The true videos have more" not in plain
    assert "**The true videos have more** than one of the two in VDE subject (1.5), VDE background (1.5)" in true
    assert "recall error (" not in true


def test_the_page_says_what_measures_see_of_forgetting():
    truth = [line(s, vde=2.0, recall=[(6, 0.1)]) | {"forgetful": line(s, vde=3.0, recall=[(6, 0.4)])} for s in range(3)]
    summary = summary_of([run_of(TRUTH, truth)], stories=range(3))
    assert summary["forgetting"]["subject"]["difference"]["mean"] == 1.0
    assert summary["forgetting"]["recall"]["forgetful"]["mean"] == pytest.approx(0.4)
    page = _opening(summary)
    assert "| VDE subject | 2 (2 to 2) | 3 (3 to 3) | **1 (1 to 1)** | 1.50 |" in page
    assert "| recall error | 0.1 (0.1 to 0.1) | 0.4 (0.4 to 0.4) | **0.3 (0.3 to 0.3)** | 4.00 |" in page


def test_true_videos_of_an_older_version_say_nothing_of_forgetting():
    summary = summary_of([run_of(TRUTH, [line(s) for s in range(3)])], stories=range(3))
    assert summary["forgetting"] == {}
    assert "forgetting" not in _opening(summary)


def test_a_run_that_has_not_sampled_every_story_is_missing_and_named():
    runs = [
        run_of(OURS, [line(s) for s in range(3)]),
        run_of(OURS, [line(s, seed=1) for s in range(2)], seed=1),
        run_of("sink", [line(s) for s in range(2)]),
    ]
    summary = summary_of(runs, stories=range(3), seeds=(0, 1), wanted=(OURS, "sink", "naive"))
    assert summary["missing"] == {OURS: [1], "sink": [0, 1], "naive": [0, 1]}
    assert list(summary["cells"]) == [OURS]
    fewer = summary_of(runs, stories=range(2), seeds=(0, 1), wanted=(OURS,))
    assert fewer["cells"][OURS]["seeds"] == [0, 1]
    assert fewer["missing"] == {"sink": [1]}
    assert fewer["cells"]["sink"]["kept"] == [0.25, 0.75]


def test_videos_whose_error_is_infinite_are_counted_and_left_out():
    films = [line(0, vde=None), line(1, vde=2.0), line(2, vde=4.0)]
    summary = summary_of([run_of(OURS, films)], stories=range(3))
    assert summary["cells"][OURS]["measures"]["motion"]["mean"] == 3.0
    assert summary["cells"][OURS]["infinite"] == dict.fromkeys(DRIFTS, 1)
    assert f"`{OURS}` motion 1" in _opening(summary)


def test_no_configuration_is_compared_on_seeds_that_the_other_lacks():
    ours = [run_of(OURS, [line(s, vde=1.0 + 9 * seed, seed=seed) for s in range(3)], seed=seed) for seed in (0, 1)]
    other = run_of(BASELINE, [line(s, vde=2.0) for s in range(3)])
    summary = summary_of([*ours, other], stories=range(3), seeds=(0, 1))
    assert summary["claim"]["seeds"] == [0]
    assert summary["claim"]["measures"]["subject"]["difference"]["mean"] == pytest.approx(-1.0)
    assert summary["cells"][BASELINE]["against_ours"]["subject"]["mean"] == pytest.approx(1.0)
    assert summary["cells"][OURS]["measures"]["subject"]["by_seed"] == [1.0, 10.0]


def test_curves_are_relative_changes_against_the_first_chunk():
    cell = summary_of([run_of(OURS, [line(0), line(1)])], stories=range(2))["cells"][OURS]
    assert cell["curves"]["clarity"] == [0.0, 0.5, None]
    assert cell["measures"]["visible"]["mean"] == 1.0
    assert "place" not in cell["measures"]


def test_four_digits_change_no_figure_that_matters():
    """Means and bounds keep their first three digits; so do differences, as shares of what they are differences of."""
    random = np.random.default_rng(0)

    def lines(seed, spread):
        found = []
        for story in range(12):
            made = line(story, vde=0.0, seed=seed, recall=((6, float(random.lognormal(-4, spread))),))
            for metric in DRIFTS:
                scores = (random.lognormal(3, 0.01, 3)).tolist()
                made["drift"][metric] = {"vde": float(random.lognormal(-2, spread)), "scores": scores}
                made["drift"][metric]["changes"] = changes(scores)
            made["captions"]["visible"] = float(random.uniform())
            found.append(made)
        return found

    exact = [run_of(label, lines(seed, 0.5), seed=seed) for label in (OURS, BASELINE) for seed in (0, 1)]
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


def test_the_page_names_the_machines_and_commits_of_the_runs():
    machines = [{"bdiff": "1", "torch": "2", "processor": name} for name in ("slow", "fast", "slow")]
    runs = [
        run_of(label, [line(0)]) | {"machine": machine, "commit": commit}
        for label, machine, commit in zip((OURS, BASELINE, "sink"), machines, ("b", None, "b"), strict=True)
    ]
    runs[0]["training"]["commit"] = "a"
    found = origins([*runs, run_of(TRUTH, [line(0)]) | {"machine": machines[0], "commit": "c", "training": None}])
    assert [machine["processor"] for machine in found["machines"]] == ["fast", "slow"]
    assert found["commits"] == ["a", "b", "c"]
    page = _opening(summary_of(runs, stories=range(1)) | found)
    assert "made by bdiff 1, torch 2 on fast; bdiff 1, torch 2 on slow; commits `a`, `b`, `c`." in page


def test_what_is_claimed_is_measured():
    assert set(CLAIMED) <= set(MEASURES)
