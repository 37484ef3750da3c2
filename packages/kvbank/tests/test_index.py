import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvbank import ExactIndex, FaissIndex, Index

SMALL = {"ivf": "ivf2,nprobe=2", "hnsw": "hnsw8,ef=200"}


def Ivf():  # noqa: N802
    """Trained after 78 prompts; both of its lists are searched, so it is exact."""
    return FaissIndex(SMALL["ivf"])


def Hnsw():  # noqa: N802
    """With more candidates than there are prompts, so it is exact but for bad luck."""
    return FaissIndex(SMALL["hnsw"])


INDEXES = [ExactIndex, FaissIndex, Ivf, Hnsw]
FIXED = settings(derandomize=True, deadline=None, max_examples=60)
VECTOR = st.lists(st.integers(-3, 3), min_size=3, max_size=3)


def filled(kind, vectors):
    index = kind()
    for chunk, vector in enumerate(vectors):
        index.add(chunk, torch.tensor(vector, dtype=torch.float32))
    return index


def slow_search(vectors, query, count):
    """Cosines in plain floats; those closer than rounding are equal, and the newest of them is best."""

    def cosine(a, b):
        norm = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0

    scores = {chunk: cosine(vector, query) for chunk, vector in vectors.items()}
    return sorted(scores, key=lambda chunk: (round(scores[chunk], 6), chunk), reverse=True)[:count], scores


@pytest.mark.parametrize("kind", INDEXES)
@FIXED
@given(vectors=st.lists(VECTOR, min_size=1, max_size=20), query=VECTOR, count=st.integers(0, 21), data=st.data())
def test_search_with_removals_is_a_loop_over_cosines(kind, vectors, query, count, data):
    index, held = filled(kind, vectors), dict(enumerate(vectors))
    for chunk in data.draw(st.sets(st.sampled_from(range(len(vectors))))):
        index.remove(chunk)
        del held[chunk]
    best, scores = slow_search(held, query, count)
    found = index.search(torch.tensor(query, dtype=torch.float32), count)
    assert len(index) == len(held)
    assert list(found) == best
    assert found == pytest.approx({chunk: scores[chunk] for chunk in best}, abs=1e-6)


@pytest.mark.parametrize("kind", INDEXES[1:])
@FIXED
@given(
    seed=st.integers(0, 10_000),
    num_chunks=st.integers(1, 100),
    copies=st.integers(0, 10),
    count=st.none() | st.integers(0, 50),
    data=st.data(),
)
def test_faiss_returns_what_exact_search_returns(kind, seed, num_chunks, copies, count, data):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(num_chunks, 24, generator=generator)
    repeats = torch.randint(num_chunks, (copies,), generator=generator)
    vectors = torch.cat([vectors, vectors[repeats], vectors[repeats] * 1.0000002])
    exact, faiss = ExactIndex(), kind()
    for chunk, vector in enumerate(vectors):
        exact.add(chunk, vector)
        faiss.add(chunk, vector)
    for chunk in data.draw(st.sets(st.sampled_from(range(len(vectors))))):
        exact.remove(chunk)
        faiss.remove(chunk)
    query = torch.randn(24, generator=generator)
    assert list(faiss.search(query, count).items()) == list(exact.search(query, count).items())


@pytest.mark.parametrize("kind", INDEXES)
def test_many_chunks_of_one_prompt_tie_and_the_newest_win(kind):
    prompt, query = torch.randn(2, 384, generator=torch.Generator().manual_seed(0))
    index = kind()
    for chunk in range(67):
        index.add(chunk, prompt)
    assert list(index.search(query, 3)) == [66, 65, 64]
    assert len(set(index.search(query).values())) == 1


@pytest.mark.parametrize("kind", INDEXES)
def test_a_removed_chunk_can_come_back_with_another_embedding(kind):
    index = filled(kind, [[1, 0], [0, 1]])
    index.remove(0)
    index.add(0, torch.tensor([0.0, -1.0]))
    assert index.search(torch.tensor([0.0, 2.0])) == {1: 1.0, 0: -1.0}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_empty_index_finds_nothing(kind):
    index = kind()
    assert isinstance(index, Index)
    assert index.search(torch.ones(3)) == {}
    index.add(0, torch.ones(3))
    index.remove(0)
    assert len(index) == 0
    assert index.search(torch.ones(3), 1) == {}
    index.add(1, torch.ones(5))
    assert index.search(torch.ones(5), 1) == {1: 1.0}


@pytest.mark.parametrize("kind", INDEXES)
def test_mistakes_are_named(kind):
    index = filled(kind, [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="chunk 1 is in the index already"):
        index.add(1, torch.ones(2))
    with pytest.raises(ValueError, match="chunk 7 is not in the index"):
        index.remove(7)
    with pytest.raises(ValueError, match="embedding has 3 numbers; the index holds embeddings of 2"):
        index.add(2, torch.ones(3))
    with pytest.raises(ValueError, match="embedding has 3 numbers; the index holds embeddings of 2"):
        index.search(torch.ones(3))
    with pytest.raises(ValueError, match="count is -1; expected at least 0"):
        index.search(torch.ones(2), -1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        index.add(2, torch.tensor([math.nan, 1.0]))
    assert len(index) == 2


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("kind", INDEXES)
def test_an_embedding_is_one_vector(kind):
    with pytest.raises(ValueError, match=r"embedding has shape \(1, 2\); expected one vector"):
        kind().add(0, torch.ones(1, 2))


@pytest.mark.parametrize("kind", INDEXES)
def test_a_chunk_that_was_removed_is_never_found(kind):
    generator = torch.Generator().manual_seed(0)
    index, vectors = kind(), torch.randn(200, 16, generator=generator)
    for chunk, vector in enumerate(vectors):
        index.add(chunk, vector)
        if chunk >= 20:
            index.remove(chunk - 20)
    for vector in vectors[:50]:
        found = index.search(vector, 5)
        assert len(found) == 5
        assert min(found) >= 180


@pytest.mark.parametrize("spec", ["ivf4,nprobe=1", "hnsw2,ef=1", "hnsw8"])
def test_as_many_are_found_as_were_asked_for_however_many_were_removed(spec):
    generator = torch.Generator().manual_seed(0)
    index, vectors = FaissIndex(spec), torch.randn(600, 16, generator=generator)
    for chunk, vector in enumerate(vectors):
        index.add(chunk, vector)
    for chunk in range(600):
        if chunk % 60:
            index.remove(chunk)
    for query in vectors[1:20]:
        for count in (1, 5, 9):
            assert len(index.search(query, count)) == count


def test_ivf_is_trained_once_there_are_enough_prompts_and_looks_at_some_lists_only():
    index, exact = FaissIndex("ivf4,nprobe=1"), ExactIndex()
    generator = torch.Generator().manual_seed(0)
    for chunk, vector in enumerate(torch.randn(300, 8, generator=generator)):
        assert index._neighbours is None or index._neighbours.ready == (chunk >= 4 * 39)
        index.add(chunk, vector)
        exact.add(chunk, vector)
    queries = torch.randn(50, 8, generator=generator)
    same = [list(index.search(query, 5)) == list(exact.search(query, 5)) for query in queries]
    assert 0 < sum(same) < 50
    assert index.search(queries[0]) == exact.search(queries[0])


def test_a_prompt_of_many_chunks_does_not_crowd_out_others():
    index = FaissIndex("hnsw4,ef=8")
    first, second = torch.eye(2)
    for chunk in range(500):
        index.add(chunk, second if chunk == 250 else first)
    assert list(index.search(second, 2)) == [250, 499]
    assert list(index.search(first, 3)) == [499, 498, 497]


def test_a_spec_says_what_is_missing():
    assert [FaissIndex(spec).spec for spec in ("flat", "ivf16", "hnsw32,ef=100")] == ["flat", "ivf16", "hnsw32,ef=100"]
    for spec in ("", "ivf", "ivf0", "hnsw1", "hnsw32,nprobe=3", "flat,ef=3", "pq8"):
        with pytest.raises(ValueError, match=f'spec is \'{spec}\'; expected "flat", "ivf1024,nprobe=32" or'):
            FaissIndex(spec)
