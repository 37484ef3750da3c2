import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvbank import DynamicSparse, Full, Policy, Rolling, SemanticSparse, Sink

COUNTS = st.integers(0, 5)
# Few values, so that ties are common.
SIMILARITY = st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]), max_size=14)
POLICIES = st.one_of(
    st.builds(SemanticSparse, top_l=COUNTS, num_recent=COUNTS, num_sink=COUNTS),
    st.builds(DynamicSparse, num_chunks=st.integers(1, 5), coverage=st.just(0.9)),
    st.builds(Rolling, num_chunks=st.integers(1, 5)),
    st.builds(Sink, num_sink=COUNTS, num_recent=COUNTS),
    st.just(Full()),
)


@given(similarity=SIMILARITY, top_l=COUNTS, num_recent=COUNTS)
def test_semantic_sparse_takes_the_recent_and_then_the_best_one_by_one(similarity, top_l, num_recent):
    index = len(similarity)
    recent = [chunk for chunk in range(index) if chunk >= index - num_recent]
    candidates = [chunk for chunk in range(index) if chunk not in recent]
    recalled = []
    for _ in range(min(top_l, len(candidates))):
        best = candidates[0]
        for chunk in candidates:
            if similarity[chunk] >= similarity[best]:
                best = chunk
        recalled.append(best)
        candidates.remove(best)
    policy = SemanticSparse(top_l, num_recent)
    chunks = policy.select(index, similarity)
    assert chunks == tuple(sorted(recent + recalled))
    assert [policy.kind(index, chunk) for chunk in chunks] == [
        "recent" if chunk in recent else "recalled" for chunk in chunks
    ]


def test_the_paper_sees_the_last_two_and_ties_go_to_the_newest():
    assert SemanticSparse().select(6, [0.5, 0.9, 0.5, 0.5, 1.0, 1.0]) == (1, 3, 4, 5)
    assert SemanticSparse().select(6, torch.tensor([0.5, 0.9, 0.5, 0.5, 1.0, 1.0])) == (1, 3, 4, 5)
    assert SemanticSparse().select(1, [0.3]) == (0,)
    assert SemanticSparse().select(0, []) == ()


def test_with_an_age_bonus_the_first_of_visits_about_as_similar_is_recalled():
    similarity = [0.5, 0.88, 0.2, 0.9, 0.88, 0.1, 1.0, 1.0]
    assert SemanticSparse(top_l=1).select(8, similarity) == (3, 6, 7)
    assert SemanticSparse(top_l=1, age_bonus=0.1).select(8, similarity) == (1, 6, 7)
    assert SemanticSparse(top_l=2, age_bonus=0.1).select(8, similarity) == (1, 3, 6, 7)
    assert SemanticSparse(top_l=2, age_bonus=0.1).select(8, [0.5] * 8) == (0, 1, 6, 7)


@given(similarity=SIMILARITY, top_l=COUNTS, num_recent=COUNTS, age_bonus=st.sampled_from([0.0, 0.25, 2.0]))
def test_an_age_bonus_is_added_to_what_older_chunks_have_in_common_with_the_reader(
    similarity, top_l, num_recent, age_bonus
):
    index = len(similarity)
    raised = [each + age_bonus * (index - chunk) / index for chunk, each in enumerate(similarity)]
    chosen = SemanticSparse(top_l, num_recent, age_bonus=age_bonus).select(index, similarity)
    older = range(max(0, index - num_recent))
    recalled = [chunk for chunk in chosen if chunk in older]
    assert len(recalled) == min(top_l, len(older))
    left = [raised[chunk] for chunk in older if chunk not in recalled]
    assert max(left, default=-9) <= min((raised[chunk] for chunk in recalled), default=9) + 1e-12


@given(similarity=SIMILARITY, top_l=COUNTS, num_recent=COUNTS, num_sink=COUNTS)
def test_a_sink_is_seen_beside_what_would_be_seen_of_the_video_without_it(similarity, top_l, num_recent, num_sink):
    index = len(similarity)
    policy = SemanticSparse(top_l, num_recent, num_sink=num_sink)
    chosen = policy.select(index, similarity)
    sink = list(range(min(num_sink, index)))
    # The video that begins after the sink has the same recent chunks, and the same candidates for recall.
    rest = SemanticSparse(top_l, num_recent).select(index - len(sink), similarity[len(sink) :])
    assert set(chosen) == {*sink, *(chunk + len(sink) for chunk in rest)}
    kinds = {chunk: policy.kind(index, chunk) for chunk in chosen}
    assert [chunk for chunk, kind in kinds.items() if kind == "recent"] == list(
        range(max(0, index - num_recent), index)
    )
    assert all(kinds[chunk] in ("sink", "recent") for chunk in sink)
    assert sum(kind == "recalled" for kind in kinds.values()) == min(top_l, max(0, index - num_recent - num_sink))


@given(index=st.integers(0, 12), sink=COUNTS, count=COUNTS)
def test_semantic_memory_without_recall_is_a_sink(index, sink, count):
    policy, plain = SemanticSparse(0, count, num_sink=sink), Sink(sink, count)
    chosen = policy.select(index)
    assert chosen == plain.select(index)
    assert [policy.kind(index, chunk) for chunk in chosen] == [plain.kind(index, chunk) for chunk in chosen]
    assert [policy.retains(index, c) for c in range(index)] == [plain.retains(index, c) for c in range(index)]


@given(index=st.integers(0, 12), sink=COUNTS, count=COUNTS)
def test_windows_are_what_a_loop_over_all_chunks_says(index, sink, count):
    window = tuple(chunk for chunk in range(index) if index - chunk <= count)
    if count:
        assert Rolling(count).select(index) == window
        assert DynamicSparse(count, 0.9).select(index) == window
    policy = Sink(sink, count)
    expected = tuple(chunk for chunk in range(index) if chunk < sink or chunk in window)
    assert policy.select(index) == expected
    assert [policy.kind(index, chunk) for chunk in expected] == [
        "recent" if chunk in window else "sink" for chunk in expected
    ]
    assert Full().select(index) == tuple(range(index))
    assert {Full().kind(index, chunk) for chunk in range(index)} <= {"recent"}


@given(policy=POLICIES, index=st.integers(0, 10), later=st.integers(0, 6), data=st.data())
def test_what_is_not_retained_is_never_selected_again(policy, index, later, data):
    reader = index + later
    similarity = data.draw(st.lists(st.floats(-1, 1), min_size=reader, max_size=reader))
    for chunk in policy.select(reader, similarity):
        assert chunk >= index or policy.retains(index, chunk)


@given(policy=POLICIES, index=st.integers(0, 10), data=st.data())
def test_selection_is_chronological_without_repeats_and_pure(policy, index, data):
    similarity = data.draw(st.lists(st.floats(-1, 1), min_size=index, max_size=index))
    chunks = policy.select(index, similarity)
    assert list(chunks) == sorted(set(chunks))
    assert set(chunks) <= set(range(index))
    assert policy.select(index, tuple(similarity)) == chunks


def test_windows_let_go_and_recall_does_not():
    assert [chunk for chunk in range(9) if Rolling(2).retains(9, chunk)] == [7, 8]
    assert [chunk for chunk in range(9) if Sink(1, 2).retains(9, chunk)] == [0, 7, 8]
    assert all(SemanticSparse().retains(9, chunk) for chunk in range(9))
    assert [chunk for chunk in range(9) if SemanticSparse(0, 2).retains(9, chunk)] == [7, 8]


@given(policy=POLICIES)
def test_policies_satisfy_the_protocol_and_are_values(policy):
    assert isinstance(policy, Policy)
    assert {policy: 1}[dataclasses.replace(policy)] == 1


def test_policies_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SemanticSparse().coverage = 0.5


def test_similarities_must_be_one_a_chunk():
    with pytest.raises(ValueError, match="got 2 similarities for chunk 3; expected one for each of the 3 chunks"):
        SemanticSparse().select(3, [0.1, 0.2])


def test_chunks_count_from_zero():
    with pytest.raises(ValueError, match="chunk number is -1; chunks count from 0"):
        Rolling(2).select(-1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemanticSparse(top_l=-1), "top_l is -1; expected at least 0"),
        (lambda: SemanticSparse(num_recent=-2), "num_recent is -2; expected at least 0"),
        (lambda: SemanticSparse(num_sink=-1), "num_sink is -1; expected at least 0"),
        (lambda: SemanticSparse(coverage=0.0), "coverage is 0.0"),
        (lambda: SemanticSparse(coverage=1.5), "coverage is 1.5"),
        (lambda: SemanticSparse(drop=1.0), "drop is 1.0; expected a probability"),
        (lambda: SemanticSparse(drop=-0.1), "drop is -0.1"),
        (lambda: SemanticSparse(age_bonus=-0.1), "age_bonus is -0.1; expected a number from 0"),
        (lambda: SemanticSparse(age_bonus=float("nan")), "age_bonus is nan"),
        (lambda: DynamicSparse(0, 0.9), "num_chunks is 0; expected at least 1"),
        (lambda: DynamicSparse(2, 0.0), "coverage is 0.0"),
        (lambda: Rolling(0), "num_chunks is 0; expected at least 1"),
        (lambda: Sink(-1, 2), "num_sink is -1"),
        (lambda: Sink(1, -2), "num_recent is -2"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("value", [2.0, True, "2"])
def test_counts_that_are_no_integers_are_refused(value):
    with pytest.raises(TypeError, match=r"num_chunks is .*; expected an integer"):
        Rolling(value)
