"""Plans: places, actions and captions of a story, before anything is drawn."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.elements import ACTIONS, LEFTMOST, PLACES, RIGHTMOST, SPECIES
from storyworld.plan import plan_story

COLOURS = re.compile(r"\b(red|green|blue|yellow|orange|purple|pink|brown|black|white|grey|gray|colou?r)\b")
VERBS = {
    "walk": re.compile(r"\b(walks|strolls|wanders|trots)\b"),
    "stand": re.compile(r"\b(stands still|waits|rests|looks around)\b"),
    "jump": re.compile(r"\b(jumps|hops)\b"),
}
SEEDS = st.integers(0, 10**7)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 25), st.booleans())
def test_a_shorter_plan_is_the_beginning_of_the_longer_one(seed, num_chunks, companions):
    short, long = (plan_story(seed, count, companions=companions) for count in (num_chunks, 25))
    assert len(short.chunks) == num_chunks
    assert long.chunks[:num_chunks] == short.chunks
    assert (long.species, long.places, long.inhabitants) == (short.species, short.places, short.inhabitants)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_world_has_a_few_places_none_twice(seed):
    plan = plan_story(seed, 1)
    assert plan.species in SPECIES
    assert 3 <= len(plan.places) <= 5
    assert len(set(plan.places)) == len(plan.places)
    assert set(plan.places) <= set(PLACES)


def test_every_species_place_and_action_comes_up():
    plans = [plan_story(seed, 12) for seed in range(60)]
    assert {plan.species for plan in plans} == set(SPECIES)
    assert {place for plan in plans for place in plan.places} == set(PLACES)
    assert {chunk.action for plan in plans for chunk in plan.chunks} | {"pace"} == set(ACTIONS)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_captions_name_protagonist_place_and_direction_but_no_colour(seed):
    written = plan_story(seed, 25, companions=seed % 2 == 1)
    for chunk in written.chunks:
        assert written.species in chunk.caption
        assert written.places[chunk.place] in chunk.caption
        assert ("right" in chunk.caption) == (chunk.direction == 1)
        assert ("left" in chunk.caption) == (chunk.direction == -1)
        assert not COLOURS.search(chunk.caption)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_captions_name_the_action_and_a_return(seed):
    plan = plan_story(seed, 25)
    seen = {0}
    for chunk in plan.chunks:
        assert [action for action, verb in VERBS.items() if verb.search(chunk.caption)] == [chunk.action]
        named = re.search(r"\b(back to|returns to) the \w+$", chunk.caption) is not None
        assert named == (chunk.arrives and chunk.place in seen)
        seen.add(chunk.place)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_no_other_place_or_species_is_named(seed):
    plan = plan_story(seed, 25, companions=True)
    for chunk in plan.chunks:
        words = set(re.findall(r"\w+", chunk.caption))
        assert words & set(PLACES) == {plan.places[chunk.place]}
        assert words & set(SPECIES) == {plan.species, chunk.companion} - {None}


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_protagonist_walks_as_planned_and_stays_in_the_picture(seed):
    position = None
    for chunk in plan_story(seed, 25).chunks:
        assert LEFTMOST <= min(chunk.start, chunk.end) <= max(chunk.start, chunk.end) <= RIGHTMOST
        if chunk.direction:
            assert 16 <= (chunk.end - chunk.start) * chunk.direction <= 28 + 1e-9
        else:
            assert chunk.start == chunk.end
        if position is not None and not chunk.arrives:
            assert chunk.start == position
        position = chunk.end


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_protagonist_leaves_over_one_edge_and_enters_over_the_other(seed):
    for before, after in pairwise(plan_story(seed, 25).chunks):
        assert after.arrives == (after.place != before.place)
        if after.arrives:
            assert after.direction == (1 if before.end >= 32.0 else -1)  # the nearer edge
            assert min(after.start - LEFTMOST, RIGHTMOST - after.start) <= 4.0
            assert (after.start < 32.0) == (after.direction == 1)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_story_begins_with_a_walk_and_only_walks_have_a_direction(seed):
    chunks = plan_story(seed, 25).chunks
    assert (chunks[0].action, chunks[0].arrives, chunks[0].place) == ("walk", False, 0)
    for chunk in chunks:
        assert (chunk.action == "walk") == (chunk.direction != 0)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_stay_lasts_three_chunks_at_most(seed):
    stay = 0
    for chunk in plan_story(seed, 25).chunks:
        stay = 1 if chunk.arrives else stay + 1
        assert stay <= 3


def test_places_are_left_and_visited_again_after_long_absences():
    gaps = []
    for seed in range(40):
        places = [chunk.place for chunk in plan_story(seed, 25).chunks]
        for chunk in range(1, 25):
            if places[chunk] in places[: chunk - 1] and places[chunk] != places[chunk - 1]:
                gaps.append(chunk - max(c for c in range(chunk) if places[c] == places[chunk]))
    assert len(gaps) / 40 > 4  # returns a story
    assert sum(gap > 4 for gap in gaps) / len(gaps) > 0.5  # beyond a window of four chunks


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_companions_change_nothing_else_in_a_story(seed):
    alone, met = plan_story(seed, 12), plan_story(seed, 12, companions=True)
    assert alone.inhabitants == ()
    assert len(set(met.inhabitants)) == len(met.places)
    assert alone.species not in met.inhabitants
    for one, other in zip(alone.chunks, met.chunks, strict=True):
        assert other.caption.startswith(one.caption)
        assert (other.caption == one.caption) == (other.companion is None)
        assert other.companion in (None, met.inhabitants[other.place])
        assert (one.place, one.start, one.end, one.action) == (other.place, other.start, other.end, other.action)
        assert ("right" in other.caption, "left" in other.caption) == (one.direction == 1, one.direction == -1)


def test_a_companion_is_met_for_a_whole_stay_on_about_half_of_the_stays():
    stays = []
    for seed in range(40):
        for index, chunk in enumerate(plan_story(seed, 25, companions=True).chunks):
            if chunk.arrives or index == 0:
                stays.append(chunk.companion)
            assert chunk.companion == stays[-1]
    assert 0.35 < sum(who is not None for who in stays) / len(stays) < 0.55


@pytest.mark.parametrize(
    ("seed", "num_chunks", "message"),
    [(-1, 3, "seed is -1; expected a non-negative integer"), (0, 0, "num_chunks is 0; a story has at least 1 chunk")],
)
def test_what_cannot_be_planned_is_named(seed, num_chunks, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        plan_story(seed, num_chunks)
