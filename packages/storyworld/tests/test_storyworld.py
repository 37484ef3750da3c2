"""Laws of the world: it is a function of its seed, its truth is true, and its captions give no colour away."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from storyworld import plan

COLOURS = re.compile(r"\b(red|green|blue|yellow|orange|purple|pink|brown|black|white|grey|gray|colou?r)\b")
SEEDS = st.integers(0, 10**7)


@pytest.fixture(scope="module")
def story():
    return storyworld.render(3, 12)


@pytest.mark.parametrize("richness", [0, 1, 2])
def test_a_story_is_a_function_of_its_seed(richness):
    one, again, other = (storyworld.render(seed, 2, richness=richness) for seed in (5, 5, 6))
    assert torch.equal(one.frames, again.frames)
    assert one.captions == again.captions
    assert not torch.equal(one.frames, other.frames)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_a_shorter_story_is_the_beginning_of_the_longer_one(seed):
    short, long = storyworld.render(seed, 2), storyworld.render(seed, 4)
    assert long.captions[:2] == short.captions
    assert torch.equal(long.frames[:, :37], short.frames)


@pytest.mark.parametrize("richness", [0, 1, 2])
def test_shapes_and_ranges(richness):
    story = storyworld.render(1, 3, first_chunk_frames=13, chunk_frames=12, richness=richness)
    assert story.frames.shape == (3, 37, 64, 64)
    assert story.chunk_frames == (13, 12, 12)
    assert story.frames.abs().max() <= 1
    assert story.frames.dtype == torch.float32
    assert len(story.captions) == len(story.truth.place) == 3


def test_flat_worlds_have_two_colours_and_a_horizon():
    story = storyworld.render(4, 1, richness=0)
    background = story.truth.backgrounds[0]
    assert torch.equal(background[:, 0, 0], background[:, 20, 40])
    assert torch.equal(background[:, 63, 0], background[:, 50, 40])
    assert set(story.truth.regions[0].unique().tolist()) <= {0, 1, 255}


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_captions_tell_actor_place_and_direction_but_no_colour(seed):
    written = plan.plan_story(seed, 25, companions=seed % 2 == 1)
    for beat in written.chunks:
        assert written.species in beat.caption
        assert written.places[beat.place] in beat.caption
        assert ("right" in beat.caption) == (beat.direction == 1)
        assert ("left" in beat.caption) == (beat.direction == -1)
        assert not COLOURS.search(beat.caption)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_protagonist_walks_as_told_and_stays_in_the_picture(seed):
    position = None
    for beat in plan.plan_story(seed, 25).chunks:
        assert plan.LEFTMOST <= min(beat.start, beat.end) <= max(beat.start, beat.end) <= plan.RIGHTMOST
        if beat.direction:
            assert (beat.end - beat.start) * beat.direction >= 16
        else:
            assert beat.start == beat.end
        if position is not None and not beat.arrives:
            assert beat.start == position
        position = beat.end


def test_places_are_left_and_visited_again_after_long_absences():
    gaps = []
    for seed in range(40):
        places = [beat.place for beat in plan.plan_story(seed, 25).chunks]
        for chunk in range(1, 25):
            if places[chunk] in places[: chunk - 1] and places[chunk] != places[chunk - 1]:
                gaps.append(chunk - max(c for c in range(chunk) if places[c] == places[chunk]))
    assert len(gaps) / 40 > 4  # returns a story
    assert sum(gap > 4 for gap in gaps) / len(gaps) > 0.5  # beyond a window of four chunks


def test_a_place_looks_the_same_on_every_visit(story):
    truth = story.truth
    for chunk, place in enumerate(truth.place.tolist()):
        shown = truth.chunk_of_frame == chunk
        difference = (story.frames[:, shown] - truth.backgrounds[place][:, None]).abs().amax(0)
        grown = torch.nn.functional.max_pool2d(truth.subject[shown].float()[:, None], 3, 1, 1)[:, 0] > 0
        assert difference[~grown].max() < 1e-5


def test_the_mask_is_where_the_protagonist_is(story):
    truth = story.truth
    at = truth.subject.float()
    rows, columns = torch.arange(64.0), torch.arange(64.0)
    centre = (at.sum(1) * columns).sum(1) / at.sum((1, 2))
    assert (centre - truth.position[:, 0]).abs().max() < 8
    lowest = (at.amax(2) * rows).amax(1)
    assert ((lowest - truth.position[:, 1]).abs() < 3).all()
    assert truth.visible.all()


def test_regions_have_the_colours_they_are_named_after():
    story = storyworld.render(8, 1)
    truth = story.truth
    sky, ground = truth.backgrounds[0][:, 0], truth.backgrounds[0][:, 63]
    assert (truth.regions[0][0] == 0).any()
    assert (sky.T[truth.regions[0][0] == 0] - truth.sky[0]).abs().max() < 0.05
    assert (ground.T - truth.ground[0]).abs().max() < 0.05


def test_the_protagonist_differs_from_every_place():
    for seed in range(10):
        truth = storyworld.render(seed, 1).truth
        body = truth.subject_colours[0]
        for colours in (truth.sky, truth.ground):
            assert (colours - body).norm(dim=1).min() > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1, "num_chunks": 1}, "seed is -1"),
        ({"seed": 0, "num_chunks": 0}, "at least 1 chunk"),
        ({"seed": 0, "num_chunks": 2, "chunk_frames": 3}, "at least 4 frames"),
        ({"seed": 0, "num_chunks": 2, "richness": 7}, "expected 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        storyworld.render(**arguments)
