"""Configurations are those of the paper's tables, and are chosen by table and label."""

import pytest

from studies.ablation.configurations import BASELINE, CONFIGURATIONS, OURS, SWEEP, TABLES, choose


def test_tables_5_and_6_share_the_paper_s_own_configuration():
    assert set(TABLES["5"]) & set(TABLES["6"]) == {OURS}
    assert set(TABLES["claim"]) == {OURS, BASELINE} <= set(TABLES["6"])
    assert len(
        {(c.policy, c.coverage, c.loss, c.weight, c.gamma, c.adversarial) for c in CONFIGURATIONS.values()}
    ) == len(CONFIGURATIONS)
    assert {label for table in TABLES.values() for label in table} | set(SWEEP) == set(CONFIGURATIONS)


def test_one_configuration_is_sampled_without_a_cache_at_the_budget_of_the_others():
    (found,) = (one for one in CONFIGURATIONS.values() if one.sampler == "overlap")
    assert found.label in TABLES["5"]
    assert (found.policy, found.loss) == ("rolling", "flow-matching")


def test_configurations_are_chosen_by_table_and_label():
    assert [one.label for one in choose(("claim", "6"), sweep=False, only=(OURS, "naive"))] == [OURS, "naive"]
    assert len(choose(("5", "6"), sweep=True)) == len(CONFIGURATIONS)
    with pytest.raises(ValueError, match="no configuration 'naive' here; expected some of overlap, rolling, sink"):
        choose(("5",), sweep=False, only=("naive",))


def test_files_of_results_keep_their_names():
    written = CONFIGURATIONS["game-0.01"].to_json()
    assert written["game"] == 0.01
    assert set(written) == {"label", "title", "policy", "sampler", "coverage", "loss", "weight", "gamma", "game"}
