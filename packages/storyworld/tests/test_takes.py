"""Takes without cuts: one place for the whole video, and a walk through a wide place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from storyworld.elements import ACTION_WORDS, LEFTMOST, PLACES, RIGHTMOST, SETTINGS, SPOTS
from storyworld.plan import plan_story

SEEDS = st.integers(0, 10**7)
TAKES = st.sampled_from(["place", "walk"])
MINUTE = {"first_chunk_frames": 29, "chunk_frames": 32}


@pytest.fixture(scope="module")
def walk():
    return storyworld.render(4, 15, take="walk", **MINUTE)


@pytest.fixture(scope="module")
def place():
    return storyworld.render(4, 15, take="place", **MINUTE)


@settings(max_examples=8, deadline=None)
@given(SEEDS, TAKES, st.integers(1, 4))
def test_a_shorter_take_is_the_beginning_of_the_longer_one(seed, take, count):
    short, long = (storyworld.render(seed, n, take=take) for n in (count, 5))
    length = short.frames.shape[1]
    assert long.captions[:count] == short.captions
    assert torch.equal(long.frames[:, :length], short.frames)
    for name in ("camera", "light", "position", "subject", "companion_mask", "view"):
        assert torch.equal(getattr(long.truth, name)[:length], getattr(short.truth, name))
    for name in ("backgrounds", "regions", "subject_colours", "companion_colours"):
        assert torch.equal(getattr(long.truth, name), getattr(short.truth, name))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_one_place_is_never_left_and_nobody_stands_still(seed):
    plan = plan_story(seed, 15, take="place")
    assert len(plan.places) == 1
    assert plan.places[0] in PLACES
    assert not any(chunk.arrives or chunk.place for chunk in plan.chunks)
    assert {chunk.action for chunk in plan.chunks} <= {"walk", "jump", "pace"}
    for chunk, share in zip(plan.chunks, [0.9] + [1.0] * 14, strict=True):
        assert LEFTMOST <= chunk.end <= RIGHTMOST
        way = abs(chunk.end - chunk.start) / share
        assert 18.0 - 1e-6 <= way <= 19.0 + 1e-6 if chunk.action == "walk" else way == 0
        assert chunk.direction == np.sign(chunk.end - chunk.start)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_somebody_passes_by_in_every_chunk_and_crosses_the_picture_in_three(seed):
    plan = plan_story(seed, 15, take="place")
    (companion,) = plan.inhabitants
    assert companion != plan.species
    for chunk, after in zip(plan.chunks, plan.chunks[1:], strict=False):
        assert chunk.companion == companion
        start, end = chunk.crossing
        assert abs(end - start) == pytest.approx(92.0 / 3)
        gone = end in (-14.0, 78.0)
        assert after.crossing[0] in (-14.0, 78.0) if gone else after.crossing[0] == end
        way = "right" if end > start else "left"
        assert chunk.caption.endswith(f"to the {way}")
        assert f"a {companion} " in chunk.caption


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_walk_goes_from_end_to_end_of_three_screens_or_more(seed):
    plan = plan_story(seed, 40, take="walk")
    assert plan.setting in SETTINGS
    assert set(plan.places) <= set(SPOTS)
    assert len(set(plan.places)) == len(plan.places)
    assert plan.width == 64.0 + 72.0 * (len(plan.places) - 1) >= 3 * 64.0
    columns = [chunk.end for chunk in plan.chunks]
    assert 32.0 <= min(columns) < 56.0
    assert plan.width - 56.0 < max(columns) <= plan.width - 32.0
    for chunk, after in zip(plan.chunks, plan.chunks[1:], strict=False):
        assert after.start == chunk.end
        assert after.arrives == (after.place != chunk.place)
        if chunk.direction and after.direction == -chunk.direction:  # it turns only before an end
            assert min(chunk.end - 32.0, plan.width - 32.0 - chunk.end) < 24.0
        assert abs(chunk.end - chunk.start) <= 56.0
        assert plan.places[chunk.place] in chunk.caption
        assert plan.setting in chunk.caption


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_spot_comes_back_into_view_within_a_minute(seed):
    spots = [chunk.place for chunk in plan_story(seed, 15, take="walk").chunks]
    returns = [c for c in range(3, 15) if spots[c] in spots[: c - 2] and spots[c] not in spots[c - 2 : c]]
    assert returns


def test_the_camera_follows_the_protagonist_and_stays_in_the_world(walk):
    truth = walk.truth
    world = truth.position[:, 0] + truth.camera
    assert (truth.position[:, 0] - 32.0).abs().max() < 14.0
    assert truth.camera.min() >= -1e-3
    assert truth.camera.max() <= truth.width - 64.0 + 1e-3
    assert truth.camera.diff().abs().max() < 2.0
    assert torch.equal(truth.view, torch.stack([truth.camera, truth.camera + 64.0], 1))
    plan = plan_story(4, 15, take="walk")
    ends = [int((truth.chunk_of_frame == c).nonzero()[-1]) for c in range(15)]
    assert torch.allclose(world[ends], torch.tensor([chunk.end for chunk in plan.chunks]), atol=1e-3)


def test_what_comes_back_into_view_is_the_same_where_camera_and_light_agree(walk):
    """The camera is rounded to an eighth of a unit of the fastest row, so close positions show the same pixels."""
    truth = walk.truth
    frames = torch.arange(len(truth.camera))
    pairs = [
        (int(a), int(b))
        for a in frames[::3]
        for b in frames[a + 96 :][(truth.camera[a + 96 :] - truth.camera[a]).abs() < 0.01]
    ]
    assert len(pairs) > 5
    equal = 0
    for a, b in pairs[:20]:
        one, other = truth.scenes[0].background(truth.camera[[a, b]].numpy())
        equal += np.array_equal(one, other)
        assert np.abs(one - other).mean() < 0.002
        shown = truth.background_at([a, b])
        lit = torch.from_numpy(one).permute(1, 0, 2) * 2.0 - 1.0
        assert torch.allclose(shown[0], (lit + 1.0) * truth.light[a][:, None, None] - 1.0, atol=1e-6)
    assert equal > 0
    exactly = truth.scenes[0].background(np.array([70.25, 3.0, 70.25], dtype=np.float32))
    assert np.array_equal(exactly[0], exactly[2])
    assert not np.array_equal(exactly[0], exactly[1])


def test_every_spot_shows_its_landmark_when_the_camera_is_there(walk):
    truth = walk.truth
    for k, scene in enumerate(truth.scenes):
        middle = truth.regions[k][:, 22:42] == 2
        assert middle.sum() > 40
        assert torch.equal(
            truth.backgrounds[k], torch.from_numpy(scene.background(np.array([72.0 * k]))[0]).permute(1, 0, 2) * 2 - 1
        )
    assert len({tuple(colours.flatten().tolist()) for colours in truth.landmark}) == len(truth.places)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_wide_place_has_no_empty_columns(setting):
    seed = next(s for s in range(200) if plan_story(s, 1, take="walk").setting == setting)
    truth = storyworld.render(seed, 1, take="walk", first_chunk_frames=4).truth
    cameras = np.linspace(0.0, truth.width - 64.0, 40, dtype=np.float32)
    picture = truth.scenes[0].background(cameras)
    assert picture.min() > 0.05
    lower = picture[:, 40:]
    assert (lower.std((1, 3)).min(1) > 0.003).all()  # small things lie everywhere


def test_there_is_no_cut_in_a_take(walk, place):
    for video in (walk, place):
        change = video.frames.diff(dim=1).abs().mean((0, 2, 3))
        starts = [sum(video.chunk_frames[:c]) - 1 for c in range(1, 15)]
        assert change[starts].max() < 1.5 * change.max()
        assert change.max() < 0.1


def test_the_light_of_a_take_changes_slowly(walk, place):
    for video in (walk, place):
        light = video.truth.light
        assert 0.002 < (light.amax(0) - light.amin(0)).max() < 0.06
        assert light.diff(dim=0).abs().max() < 0.001


def test_the_camera_of_one_place_stands_still(place):
    truth = place.truth
    assert not truth.camera.any()
    assert truth.width == 64.0
    first, last = truth.background_at([0, len(truth.camera) - 1])
    noon = (torch.stack([first, last]) + 1.0) / truth.light[[0, -1]][:, :, None, None]
    assert torch.allclose(noon[0], noon[1], atol=1e-5)


def test_who_passes_by_is_where_the_truth_says(place):
    truth = place.truth
    shown = truth.companion_mask.flatten(1).sum(1)
    assert (shown > 20).float().mean() > 0.5
    frames = range(0, len(shown), 5)
    unlike = (place.frames[:, frames].transpose(0, 1) - truth.background_at(frames)).abs().amax(1)
    assert (unlike[truth.companion_mask[frames]] > 0.1).float().mean() > 0.9


def test_a_pace_goes_to_both_sides_and_ends_where_it_began():
    seed, chunk = next(
        (seed, c)
        for seed in range(50)
        for c, each in enumerate(plan_story(seed, 6, take="place").chunks)
        if each.action == "pace"
    )
    truth = storyworld.render(seed, 6, take="place").truth
    at = truth.position[truth.chunk_of_frame == chunk, 0]
    middle = plan_story(seed, 6, take="place").chunks[chunk].start
    assert at[-1] == pytest.approx(middle, abs=1e-3)
    assert at.min() == pytest.approx(middle - 5.0, abs=0.2)
    assert at.max() == pytest.approx(middle + 5.0, abs=0.2)


@settings(max_examples=30, deadline=None)
@given(SEEDS, TAKES)
def test_captions_name_what_happens_and_no_colour(seed, take):
    plan = plan_story(seed, 12, take=take)
    known = set(storyworld.words(["place", "walk"])["words"])
    for chunk in plan.chunks:
        assert plan.species in chunk.caption
        assert any(word in chunk.caption for word in ACTION_WORDS[chunk.action])
        assert set(chunk.caption.replace(",", "").split()) <= known
    assert not known & {"red", "green", "blue", "yellow", "pink", "purple", "orange", "brown", "white", "black"}


def test_words_are_those_of_the_kinds_that_are_asked_for():
    every = storyworld.words(storyworld.TAKES)
    story, walk = storyworld.words(), storyworld.words(["walk"])
    assert every["takes"] == ["story", "place", "walk"]
    assert "spots" not in story
    assert "places" not in walk
    assert "pace" not in story["actions"]
    assert set(story["words"]) | set(walk["words"]) <= set(every["words"])
    assert {"parasol", "lighthouse"} <= set(walk["words"]) - set(story["words"])
    alone = storyworld.words(companions=False)
    assert {"there", "while"} <= set(story["words"]) - set(alone["words"])
    assert all(isinstance(example, str) for example in every["examples"])
    with pytest.raises(ValueError, match=r"^take is 'film'; expected one of story, place, walk$"):
        storyworld.words(["film"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"take": "walk", "richness": 1}, r"^richness is 1; a walk is drawn at richness 2 only: leave richness out"),
        ({"take": "place", "richness": 0}, r"^richness is 0; a place is drawn at richness 2 only"),
        ({"take": "place", "richness": 5}, r"^richness is 5; expected 0"),
    ],
)
def test_what_no_take_has_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        storyworld.render(1, 1, **arguments)


def test_a_take_that_does_not_exist_is_named(unhooked):
    with pytest.raises(ValueError, match=r"^take is 'film'; expected one of story, place, walk$"):
        storyworld.render(1, 1, take="film")
    with pytest.raises(ValueError, match=r"^take is 'film'; expected one of story, place, walk$"):
        storyworld.plan_story(1, 1, take="film")


def test_true_takes_are_right_in_every_figure(walk, place):
    for video in (walk, place):
        found = storyworld.evaluate(video.frames, video)
        assert found.visible_share == found.direction_share == 1.0
    assert (storyworld.evaluate(place.frames, place).place == -1).all()
    walked = storyworld.evaluate(walk.frames, walk)
    assert (walked.place >= 0).sum() >= 2
    assert walked.place_share == 1.0


def test_a_walk_that_goes_the_wrong_way_or_forgets_its_spots_is_found_out(walk):
    mirrored = storyworld.evaluate(walk.frames.flip(3), walk)
    true = walk.truth.direction
    assert (mirrored.direction[true != 0] == -true[true != 0]).float().mean() > 0.9
    other = storyworld.render(11, 15, take="walk", **MINUTE).frames
    half = walk.frames.clone()
    half[:, 240:] = other[:, 240:]
    assert not storyworld.evaluate(half, walk).place_share > 0.7


def test_a_large_video_is_evaluated_as_the_small_one():
    small, large = (storyworld.render(9, 3, take="walk", size=size) for size in (64, 128))
    one, other = (storyworld.evaluate(video.frames, video) for video in (small, large))
    assert torch.equal(one.visible, other.visible)
    assert torch.equal(one.direction, other.direction)
