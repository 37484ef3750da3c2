"""Visits to places: every chunk is of a first visit or of a return."""

from itertools import pairwise

import pytest

from bdiff_bench.memory.visits import first_visits, returns
from storyworld import plan_story


@pytest.mark.parametrize("seed", range(8))
def test_every_chunk_is_of_a_first_visit_or_of_a_return(seed):
    places = [chunk.place for chunk in plan_story(seed, 25).chunks]
    first = {chunk for visit in first_visits(places).values() for chunk in visit}
    back = returns(places)
    assert sorted([*first, *(r.chunk for r in back)]) == list(range(25))
    for r in back:
        assert r.place == places[r.chunk]
        assert r.gap == next(gap for gap in range(1, 25) if places[r.chunk - gap] == r.place)
    for one, other in pairwise(back):
        if other.gap == 1:
            assert other.away == one.away
        else:
            assert other.away == other.gap


def test_visits_of_a_small_story():
    places = [0, 0, 1, 0, 2, 2, 1]
    assert first_visits(places) == {0: range(2), 1: range(2, 3), 2: range(4, 6)}
    assert [(r.chunk, r.gap, r.away) for r in returns(places)] == [(3, 2, 2), (6, 4, 4)]
