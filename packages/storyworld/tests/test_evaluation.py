"""The evaluation finds nothing wrong with the true frames, and finds what was broken on purpose."""

import math

import pytest
import torch

import storyworld


@pytest.fixture(scope="module", params=[1, 2])
def story(request):
    return storyworld.render(1_000_003, 16, richness=request.param)


@pytest.mark.parametrize("richness", [0, 1, 2])
@pytest.mark.parametrize("seed", [1_000_000, 1_000_001])
def test_the_truth_is_right(seed, richness):
    story = storyworld.render(seed, 16, richness=richness)
    found = storyworld.evaluate(story.frames, story)
    assert (found.visible_share, found.direction_share, found.place_share) == (1.0, 1.0, 1.0)
    assert (found.place >= 0).any()


def test_a_slightly_noisy_truth_is_right(story):
    noise = 0.08 * torch.randn(story.frames.shape, generator=torch.Generator().manual_seed(0))
    found = storyworld.evaluate(story.frames + noise, story)
    assert found.visible_share > 0.99
    assert found.direction_share == found.place_share == 1.0


def test_a_video_without_the_protagonist_shows_none(story):
    empty = story.truth.background_at(range(story.frames.shape[1])).transpose(0, 1)
    found = storyworld.evaluate(empty, story)
    assert found.visible_share < 0.02
    assert found.direction_share == 0.0
    assert found.place_share == 1.0


def test_a_screen_of_its_colour_is_not_the_protagonist(story):
    flat = story.truth.subject_colours[0][:, None, None, None].expand_as(story.frames)
    assert storyworld.evaluate(flat, story).visible_share == 0.0


def test_a_mirrored_video_moves_the_wrong_way(story):
    found = storyworld.evaluate(story.frames.flip(3), story)
    walks = story.truth.direction != 0
    assert (found.direction[walks] == -story.truth.direction[walks]).all()


def test_a_frozen_video_stands_still(story):
    ends = torch.tensor(story.chunk_frames).cumsum(0) - 1
    frozen = story.frames[:, ends[story.truth.chunk_of_frame]]
    assert (storyworld.evaluate(frozen, story).direction == 0).all()


def test_a_place_that_looks_like_another_one_is_found_out(story):
    truth = story.truth
    frames = story.frames.clone()
    first = storyworld.evaluate(frames, story)
    chunk = int((first.place >= 0).nonzero()[0])
    other = next(p for p in truth.place[:chunk].tolist() if p != int(truth.place[chunk]))
    shown = truth.chunk_of_frame == chunk
    frames[:, shown] = truth.backgrounds[other][:, None].expand(-1, int(shown.sum()), -1, -1)
    found = storyworld.evaluate(frames, story)
    assert int(found.place[chunk]) == other
    assert found.place_share < 1.0


def test_another_length_is_refused(story):
    with pytest.raises(
        ValueError, match=r"shape \(3, 10, 64, 64\), the story \(3, 317, 64, 64\); render the story with"
    ):
        storyworld.evaluate(story.frames[:, :10], story)


def test_the_true_values_are_those_of_the_story(story):
    found = storyworld.evaluate(torch.zeros_like(story.frames), story)
    assert torch.equal(found.should_be_visible, story.truth.visible)
    assert torch.equal(found.true_direction, story.truth.direction)
    assert torch.equal(found.true_place, story.truth.place)


def test_only_a_return_has_a_place(story):
    places = story.truth.place.tolist()
    found = storyworld.evaluate(story.frames, story)
    for chunk, place in enumerate(places):
        back = place in places[:chunk] and places[chunk - 1] != place
        assert int(found.place[chunk]) == (place if back else -1)


def test_shares_of_half_right_videos(story):
    frames = story.frames.clone()
    total = frames.shape[1]
    empty = story.truth.background_at(range(0, total, 2)).transpose(0, 1)
    frames[:, ::2] = empty
    found = storyworld.evaluate(frames, story)
    assert found.visible_share == pytest.approx(0.5, abs=0.02)
    assert found.visible[1::2].all()
    assert found.direction_share == 1.0  # every second frame is enough


def test_a_protagonist_that_is_never_found_has_no_direction(story):
    found = storyworld.evaluate(torch.full_like(story.frames, -1.0), story)
    assert not found.visible.any()
    assert (found.direction == 2).all()


def test_a_story_without_returns_has_no_share_of_places():
    story = storyworld.render(1_000_003, 1)
    found = storyworld.evaluate(story.frames, story)
    assert math.isnan(found.place_share)
    assert found.visible_share == found.direction_share == 1.0


def test_a_shadow_of_its_colour_is_too_little(story):
    faint = story.truth.background_at(range(story.frames.shape[1])).transpose(0, 1).clone()
    faint[:, :, 40:44, 30:34] = story.truth.subject_colours[0][:, None, None, None]
    assert storyworld.evaluate(faint, story).visible_share == 0.0


def test_the_video_is_not_changed(story):
    frames = story.frames.clone()
    storyworld.evaluate(frames, story)
    assert torch.equal(frames, story.frames)


def test_places_are_compared_across_pans_and_light():
    story = storyworld.render(1_000_001, 16, richness=2)
    dim = (story.frames + 1) * 0.9 - 1
    assert storyworld.evaluate(dim, story).place_share == 1.0
    shifted = story.frames.roll(2, dims=3)
    assert storyworld.evaluate(shifted, story).place_share == 1.0


def test_two_views_of_a_place_are_compared_at_the_pan_between_them():
    story = storyworld.render(1_000_001, 16, richness=2)
    back = int((storyworld.evaluate(story.frames, story).place >= 0).nonzero()[0])
    stripes = torch.where(torch.arange(64) % 16 < 8, 0.4, -0.4)
    frames = torch.zeros_like(story.frames)  # grey at all other places
    place = story.truth.place[story.truth.chunk_of_frame]
    chunk = story.truth.chunk_of_frame
    frames[:, (place == story.truth.place[back]) & (chunk < back)] = stripes
    frames[:, chunk == back] = stripes.roll(8)  # less like the stripes than grey is, until it is shifted back
    assert int(storyworld.evaluate(frames, story).place[back]) == int(story.truth.place[back])
