"""The protagonist's way as planned, and a camera that goes along with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.elements import LEFTMOST, RIGHTMOST
from storyworld.layers import MARGIN
from storyworld.motion import BASELINE, follow, move
from storyworld.plan import plan_story

SEEDS = st.integers(0, 10**6)
LENGTHS = st.lists(st.integers(4, 24), min_size=1, max_size=12)


def moved(seed, lengths):
    """The plan of a story, its motion, and the frames of each chunk."""
    chunks = plan_story(seed, len(lengths)).chunks
    ends = np.cumsum(lengths)
    return chunks, move(chunks, lengths), [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS)
def test_every_chunk_ends_where_the_plan_says_and_moves_one_way(seed, lengths):
    chunks, motion, parts = moved(seed, lengths)
    for chunk, part in zip(chunks, parts, strict=True):
        assert motion.x[part][-1] == pytest.approx(chunk.end, abs=1e-3)
        steps = np.diff(np.concatenate([[np.float32(chunk.start)], motion.x[part]])) * (chunk.direction or 1)
        assert (steps > 0).all() if chunk.direction else np.abs(steps).max() < 1e-4
        assert np.ptp(steps) < 1e-3  # an even pace


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS)
def test_the_protagonist_leaves_the_ground_only_to_jump_and_lands_again(seed, lengths):
    chunks, motion, parts = moved(seed, lengths)
    for chunk, part in zip(chunks, parts, strict=True):
        lift = BASELINE - motion.y[part]
        assert lift.min() >= 0
        assert lift[-1] == pytest.approx(0.0, abs=1e-4)
        assert (lift.max() > 3.0) == (chunk.action == "jump")


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS)
def test_the_protagonist_looks_where_it_walks_and_keeps_looking_there_on_the_spot(seed, lengths):
    chunks, motion, parts = moved(seed, lengths)
    facing = None
    for chunk, part in zip(chunks, parts, strict=True):
        facing = chunk.direction or facing
        assert (motion.facing[part] == facing).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS)
def test_the_gait_goes_on_with_the_way_walked(seed, lengths):
    chunks, motion, _ = moved(seed, lengths)
    walked = sum(abs(chunk.end - chunk.start) for chunk in chunks)
    assert (np.diff(motion.gait) >= -1e-5).all()
    assert motion.gait[-1] == pytest.approx(0.4 * walked, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(SEEDS, LENGTHS)
def test_a_camera_that_follows_sees_the_same_ground_under_the_same_spot(seed, lengths):
    _, still, _ = moved(seed, lengths)
    assert (still.camera == 0).all()
    motion = follow(still, np.random.default_rng(seed), fps=8)
    ground = motion.x + motion.camera  # the column of the place on which the protagonist stands
    order = np.argsort(still.x)
    assert (np.diff(ground[order]) >= -1e-4).all()
    assert np.allclose(ground, np.interp(still.x, still.x[order], ground[order]), atol=1e-3)
    assert np.array_equal(motion.y, still.y)
    assert np.array_equal(motion.facing, still.facing)
    slow = np.ptp(still.x) > 1.0
    assert not slow or np.ptp(motion.camera) < np.ptp(still.x)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_the_camera_stays_where_scenery_is_painted(seed):
    _, still, _ = moved(seed, [17] + [20] * 24)
    motion = follow(still, np.random.default_rng([seed, 8]), fps=8)
    nearest = 1.2  # more than the rate of the last row below the lowest horizon
    assert np.abs(motion.camera).max() * nearest < MARGIN
    assert motion.x.min() > LEFTMOST - 2
    assert motion.x.max() < RIGHTMOST + 2


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 8))
def test_a_shorter_story_moves_as_the_longer_one_begins(seed, count):
    chunks = plan_story(seed, 9).chunks
    longer, shorter = (
        follow(move(chunks[:n], [10] * n), np.random.default_rng(seed), fps=8) for n in (9, count)
    )  # fmt: skip
    for name in ("x", "y", "gait", "facing", "camera"):
        assert np.array_equal(getattr(longer, name)[: 10 * count], getattr(shorter, name))
