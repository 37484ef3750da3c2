"""Laws of a rendered story: it is a function of its arguments, and its parts agree with each other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld

SEEDS = st.integers(0, 10**7)
RICHNESS = st.sampled_from([0, 1, 2])


def centres(mask):
    """Mean column of masks [t, h, w]."""
    columns = torch.arange(mask.shape[2], dtype=torch.float32)
    return (mask.float().sum(1) * columns).sum(1) / mask.float().sum((1, 2))


def num_colours(picture):
    """Number of colours of a picture [3, h, w], as bytes."""
    levels = picture.add(1).mul(127.5).round().byte()
    return len(levels.flatten(1).T.unique(dim=0))


@pytest.mark.parametrize("richness", [0, 1, 2])
def test_a_story_is_a_function_of_its_seed(richness):
    one, again, other = (storyworld.render(seed, 2, richness=richness) for seed in (5, 5, 6))
    assert torch.equal(one.frames, again.frames)
    assert one.captions == again.captions
    assert not torch.equal(one.frames, other.frames)


@pytest.mark.parametrize("richness", [0, 1, 2])
def test_global_random_numbers_are_neither_used_nor_drawn(richness):
    torch.manual_seed(0)
    np.random.seed(0)
    one = storyworld.render(5, 1, richness=richness).frames
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = storyworld.render(5, 1, richness=richness).frames
    assert one.numpy().tobytes() == again.numpy().tobytes()
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_a_shorter_story_is_the_beginning_of_the_longer_one(seed):
    short, long = storyworld.render(seed, 2), storyworld.render(seed, 4)
    assert long.captions[:2] == short.captions
    assert torch.equal(long.frames[:, :37], short.frames)


@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_shorter_rich_story_is_the_beginning_of_the_longer_one(seed):
    short, long = (storyworld.render(seed, count, richness=2) for count in (2, 4))
    assert long.captions[:2] == short.captions
    assert torch.equal(long.frames[:, :37], short.frames)
    for name in ("camera", "light", "position", "subject", "companion_mask"):
        assert torch.equal(getattr(long.truth, name)[:37], getattr(short.truth, name))
    assert long.truth.companion[:2] == short.truth.companion


@pytest.mark.parametrize("richness", [0, 1, 2])
def test_shapes_and_ranges(richness):
    story = storyworld.render(1, 3, first_chunk_frames=13, chunk_frames=12, richness=richness)
    assert story.frames.shape == (3, 37, 64, 64)
    assert story.chunk_frames == (13, 12, 12)
    assert story.frames.abs().max() <= 1
    assert story.frames.dtype == torch.float32
    assert len(story.captions) == len(story.truth.place) == 3


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(4, 9), st.integers(4, 9), RICHNESS)
def test_every_part_of_a_story_has_its_chunks_and_frames(seed, num_chunks, first, later, richness):
    story = storyworld.render(
        seed, num_chunks, first_chunk_frames=first, chunk_frames=later, richness=richness
    )  # fmt: skip
    truth, total = story.truth, first + (num_chunks - 1) * later
    assert story.fps == storyworld.FPS == 8
    assert story.frames.shape == (3, total, 64, 64)
    assert story.frames.is_contiguous()
    assert story.chunk_frames == (first, *[later] * (num_chunks - 1))
    assert truth.chunk_of_frame.tolist() == [c for c, n in enumerate(story.chunk_frames) for _ in range(n)]
    for per_chunk in (story.captions, truth.place, truth.direction, truth.arrives, truth.actions, truth.companion):
        assert len(per_chunk) == num_chunks
    for per_frame in (truth.position, truth.subject, truth.visible, truth.camera, truth.light, truth.companion_mask):
        assert len(per_frame) == total
    for per_place in (truth.sky, truth.ground, truth.landmark, truth.backgrounds, truth.regions):
        assert len(per_place) == len(truth.places)


@settings(max_examples=15, deadline=None)
@given(SEEDS, RICHNESS)
def test_the_story_is_the_one_that_was_planned(seed, richness):
    story = storyworld.render(seed, 4, first_chunk_frames=4, chunk_frames=4, richness=richness)
    plan, truth = storyworld.plan_story(seed, 4, companions=richness == 2), story.truth
    assert (truth.species, truth.places) == (plan.species, plan.places)
    assert story.captions == tuple(chunk.caption for chunk in plan.chunks)
    for name in ("place", "direction", "arrives"):
        assert getattr(truth, name).tolist() == [getattr(chunk, name) for chunk in plan.chunks]
    assert truth.actions == tuple(chunk.action for chunk in plan.chunks)
    assert truth.companion == tuple(chunk.companion for chunk in plan.chunks)


@settings(max_examples=12, deadline=None)
@given(SEEDS, RICHNESS)
def test_the_direction_is_the_way_that_the_mask_moves(seed, richness):
    truth = storyworld.render(seed, 3, richness=richness).truth
    for chunk, direction in enumerate(truth.direction.tolist()):
        at = centres(truth.subject[truth.chunk_of_frame == chunk])
        way = float(at[-1] - at[0])
        assert way * direction > 10 if direction else abs(way) < 5


@settings(max_examples=12, deadline=None)
@given(SEEDS, RICHNESS)
def test_the_protagonist_is_visible_in_every_frame(seed, richness):
    truth = storyworld.render(seed, 2, richness=richness).truth
    assert truth.visible.all()
    assert torch.equal(truth.visible, truth.subject.sum((1, 2)) >= 40)


@settings(max_examples=6, deadline=None)
@given(SEEDS)
def test_the_number_of_frames_changes_neither_captions_nor_places(seed):
    short = storyworld.render(seed, 4, first_chunk_frames=4, chunk_frames=5)
    long = storyworld.render(seed, 4)
    assert short.captions == long.captions
    assert torch.equal(short.truth.backgrounds, long.truth.backgrounds)
    assert torch.allclose(short.truth.position[[3, 8, 13, 18]], long.truth.position[[16, 36, 56, 76]], atol=1e-3)


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_a_richer_picture_has_more_colours_of_the_same_story(seed):
    stories = [storyworld.render(seed, 1, first_chunk_frames=4, richness=richness) for richness in (0, 1, 2)]
    flat, plain, rich = (num_colours(story.truth.background_at([0])[0]) for story in stories)
    assert flat <= 3 < 20 < plain < rich
    assert stories[0].captions == stories[1].captions
    assert stories[2].captions[0].startswith(stories[1].captions[0])
    assert len({story.truth.places for story in stories}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1, "num_chunks": 1}, "seed is -1"),
        ({"seed": 0, "num_chunks": 0}, "at least 1 chunk"),
        ({"seed": 0, "num_chunks": 2, "chunk_frames": 3}, "chunk_frames is 3; a chunk needs at least 4 frames"),
        ({"seed": 0, "num_chunks": 2, "first_chunk_frames": 0}, "first_chunk_frames is 0; a chunk needs at least 4"),
        ({"seed": 0, "num_chunks": 2, "richness": 7}, "richness is 7; expected 0"),
        ({"seed": 0, "num_chunks": 2, "richness": -1}, "richness is -1; expected 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        storyworld.render(**arguments)
    assert "\n" not in str(caught.value)
