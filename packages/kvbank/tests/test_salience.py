import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbank import SalienceOptions, cover_count, salient_tokens

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any)


def random_pair(seed, *, branches=2, heads=3, tokens=20, dh=4, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(branches, heads, tokens, dh, generator=generator) for _ in range(2))


def slow_importance(query, key, probes, *, mask, aggregate):
    """Algorithm 2, lines 7-10, one number at a time."""
    branches, heads, tokens, dh = key.shape
    s = [0.0] * tokens
    for b in range(branches):
        for h in range(heads):
            for i in probes:
                seen = range(i + 1) if mask == "token" else range(tokens)
                logit = {j: sum((query[b, h, i] * key[b, h, j]).tolist()) / math.sqrt(dh) for j in seen}
                norm = sum(math.exp(value) for value in logit.values())
                for j in seen:
                    s[j] += math.exp(logit[j]) / norm
    if aggregate == "cummean":
        return [sum(s[: j + 1]) / (j + 1) for j in range(tokens)]
    if mask == "token":
        return [s[j] / max(1, sum(i >= j for i in probes)) for j in range(tokens)]
    return s


def slow_keep(m, coverage):
    """CoverCount and Top-K, lines 11-12, by trying every M."""
    order = sorted(range(len(m)), key=lambda j: (-m[j], j))
    for count in range(1, len(m) + 1):
        if sum(m[j] for j in order[:count]) >= coverage * sum(m) - 1e-9:
            return sorted(order[:count])
    raise AssertionError


@FIXED
@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(1, 10),
    coverage=st.floats(0.05, 0.999),
    mask=st.sampled_from(["chunk", "token"]),
    aggregate=st.sampled_from(["sum", "cummean"]),
)
def test_equals_algorithm_2_written_as_loops_when_all_queries_probe(seed, tokens, coverage, mask, aggregate):
    query, key = random_pair(seed, tokens=tokens, heads=2, dh=3)
    expected = slow_keep(slow_importance(query, key, range(tokens), mask=mask, aggregate=aggregate), coverage)
    assert salient_tokens(query, key, coverage=coverage, mask=mask, aggregate=aggregate).tolist() == expected


@pytest.mark.parametrize(("mask", "aggregate"), [("token", "cummean"), ("token", "sum"), ("chunk", "sum")])
def test_the_recent_queries_are_the_probes_when_none_is_random(mask, aggregate):
    query, key = random_pair(3, tokens=14)
    kept = salient_tokens(
        query, key, coverage=0.6, num_recent_probes=4, num_random_probes=0, mask=mask, aggregate=aggregate
    )
    assert kept.tolist() == slow_keep(
        slow_importance(query, key, range(10, 14), mask=mask, aggregate=aggregate), coverage=0.6
    )


def voters(seed, *, tokens, probes, recent, random):
    """Which queries probe: query i attends to key i alone, so the tokens with any importance are the probes."""
    eye = 100.0 * torch.eye(tokens)[None, None]
    return salient_tokens(
        eye,
        eye,
        coverage=1.0,
        num_recent_probes=recent,
        num_random_probes=random,
        probes=probes,
        generator=torch.Generator().manual_seed(seed),
    ).tolist()


@FIXED
@given(seed=st.integers(0, 1000), recent=st.integers(0, 12), random=st.integers(0, 12))
def test_paper_probes_are_the_last_queries_and_distinct_earlier_ones(seed, recent, random):
    if recent + random == 0:
        return
    found = voters(seed, tokens=30, probes="paper", recent=recent, random=random)
    assert found[random:] == list(range(30 - recent, 30))
    assert len(set(found[:random])) == random
    assert all(token < 30 - recent for token in found[:random])


def test_random_probes_come_from_the_whole_rest_and_uniform_ones_from_everywhere():
    paper = {token for seed in range(60) for token in voters(seed, tokens=20, probes="paper", recent=5, random=2)}
    uniform = [voters(seed, tokens=20, probes="uniform", recent=3, random=3) for seed in range(60)]
    assert paper == set(range(20))
    assert {token for found in uniform for token in found} == set(range(20))
    assert all(len(found) == 6 for found in uniform)
    assert any(not {17, 18, 19} <= set(found) for found in uniform)


@pytest.mark.parametrize("probes", ["paper", "uniform"])
def test_all_queries_probe_when_there_are_no_more_than_probes(probes):
    assert voters(0, tokens=9, probes=probes, recent=4, random=5) == list(range(9))
    assert len(voters(0, tokens=10, probes=probes, recent=4, random=5)) == 9


def test_draws_depend_on_the_generator_and_not_on_the_global_one():
    torch.manual_seed(1)
    first = voters(7, tokens=50, probes="paper", recent=2, random=3)
    torch.rand(5)
    assert voters(7, tokens=50, probes="paper", recent=2, random=3) == first
    assert voters(8, tokens=50, probes="paper", recent=2, random=3) != first
    query, key = random_pair(0, tokens=200)
    assert torch.equal(salient_tokens(query, key, coverage=0.3), salient_tokens(query, key, coverage=0.3))


@FIXED
@given(seed=st.integers(0, 1000), budget=st.integers(1, 12))
def test_a_budget_keeps_the_most_important_of_the_covering_tokens(seed, budget):
    query, key = random_pair(seed, tokens=10, heads=2)
    importance = slow_importance(query, key, range(10), mask="chunk", aggregate="sum")
    covering = slow_keep(importance, 0.9)
    expected = sorted(sorted(covering, key=lambda j: -importance[j])[:budget])
    assert salient_tokens(query, key, coverage=0.9, max_tokens=budget).tolist() == expected


@FIXED
@given(seed=st.integers(0, 1000), low=st.floats(0.01, 1.0), high=st.floats(0.01, 1.0))
def test_more_coverage_keeps_a_superset(seed, low, high):
    query, key = random_pair(seed)
    low, high = sorted((low, high))
    smaller, larger = (set(salient_tokens(query, key, coverage=tau).tolist()) for tau in (low, high))
    assert smaller <= larger


def test_kept_set_is_ascending_int64_and_the_planted_tokens():
    query, key = torch.zeros(1, 2, 40, 8), torch.zeros(1, 2, 40, 8)
    query[..., 0] = 30.0
    key[:, :, [31, 4, 17], 0] = 1.0
    kept = salient_tokens(query, key, coverage=0.99)
    assert kept.dtype == torch.int64
    assert kept.tolist() == [4, 17, 31]


def test_branches_share_one_set_that_covers_both():
    eye = 100.0 * torch.eye(6)
    query = torch.stack([eye[[0]].expand(6, 6), eye[[5]].expand(6, 6)])[:, None]
    assert salient_tokens(query, eye.expand(2, 1, 6, 6), coverage=0.99).tolist() == [0, 5]


def test_scores_are_float32_under_autocast_and_for_bfloat16():
    query, key = (tensor.bfloat16() for tensor in random_pair(5, tokens=400, scale=1.0))
    expected = salient_tokens(query.float(), key.float(), coverage=0.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(salient_tokens(query, key, coverage=0.7), expected)
        assert torch.equal(salient_tokens(query.float(), key.float(), coverage=0.7), expected)


def test_scoring_leaves_no_graph():
    query, key = (tensor.requires_grad_() for tensor in random_pair(5))
    assert not salient_tokens(query, key, coverage=0.7).requires_grad


@FIXED
@given(weights=WEIGHTS, percent=st.integers(1, 99))
def test_cover_count_is_the_smallest_count_that_covers_in_exact_arithmetic(weights, percent):
    count = cover_count(torch.tensor(weights, dtype=torch.float32), percent / 100)
    largest = sorted(weights, reverse=True)
    needed = Fraction(percent, 100) * sum(weights)
    assert sum(largest[:count]) >= needed
    assert count == 1 or sum(largest[: count - 1]) < needed


@FIXED
@given(weights=WEIGHTS, scale=st.floats(1e-20, 1e20), percent=st.integers(1, 100))
def test_cover_count_does_not_depend_on_scale_or_order(weights, scale, percent):
    scores = torch.tensor(weights, dtype=torch.float64)
    expected = cover_count(scores, percent / 100)
    assert cover_count(scores * scale, percent / 100) == expected
    assert cover_count(scores.flip(0), percent / 100) == expected


@pytest.mark.parametrize("percent", range(1, 100))
def test_rounding_asks_for_no_token_too_many(percent):
    # 0.07 * 100 is more than 7 in floating point.
    assert cover_count(torch.ones(100), percent / 100) == percent


def test_full_coverage_keeps_every_score_above_zero_however_small():
    assert cover_count(torch.tensor([1.0, 0.0, 1e-30, 0.0]), 1.0) == 2
    assert cover_count(torch.zeros(3), 1.0) == 1
    assert cover_count(torch.zeros(3), 0.5) == 1


@pytest.mark.parametrize("coverage", [0.0, -0.1, 1.01, math.nan])
def test_coverage_outside_its_range_is_refused(coverage):
    with pytest.raises(ValueError, match=r"coverage is .*expected a fraction in \(0, 1\]"):
        cover_count(torch.ones(3), coverage)


@pytest.mark.parametrize("scores", [[-1.0, 2.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_scores_that_are_no_importances_are_refused(scores):
    with pytest.raises(ValueError, match="negative or non-finite"):
        cover_count(torch.tensor(scores), 0.5)


def test_scores_may_be_integers_or_a_plain_sequence():
    for scores in (torch.tensor([5, 3, 2]), [5, 3, 2], (5.0, 3.0, 2.0)):
        assert [cover_count(scores, coverage) for coverage in (0.5, 0.8, 0.81)] == [1, 2, 3]
    assert cover_count([0.1] * 10, 0.3) == 3


def test_scores_without_tokens_are_refused():
    with pytest.raises(ValueError, match="at least one score"):
        cover_count(torch.empty(0), 0.5)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(("query", "key"), [((1, 1, 3, 2), (1, 1, 4, 2)), ((1, 3, 2), (1, 3, 2)), ((1, 1, 0, 2),) * 2])
def test_unfit_queries_and_keys_are_refused(query, key):
    with pytest.raises(ValueError, match="expected the same shape"):
        salient_tokens(torch.ones(query), torch.ones(key), coverage=0.5)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("field", ["mask", "aggregate", "probes"])
def test_unknown_words_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 'frame'; expected one of"):
        SalienceOptions(**{field: "frame"})


def test_options_without_probes_or_budget_are_refused():
    with pytest.raises(ValueError, match="at least one probe"):
        SalienceOptions(num_recent_probes=0, num_random_probes=0)
    with pytest.raises(ValueError, match="no negative count"):
        SalienceOptions(num_recent_probes=-1)
    with pytest.raises(ValueError, match="max_tokens is 0"):
        SalienceOptions(max_tokens=0)
