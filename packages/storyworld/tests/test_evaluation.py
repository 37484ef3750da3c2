"""The judge finds nothing wrong with the truth, and what was broken on purpose."""

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
    verdict = storyworld.evaluate(story.frames, story)
    assert (verdict.visible_share, verdict.direction_share, verdict.place_share) == (1.0, 1.0, 1.0)
    assert (verdict.place >= 0).any()


def test_a_slightly_noisy_truth_is_right(story):
    noise = 0.08 * torch.randn(story.frames.shape, generator=torch.Generator().manual_seed(0))
    verdict = storyworld.evaluate(story.frames + noise, story)
    assert verdict.visible_share > 0.99
    assert verdict.direction_share == verdict.place_share == 1.0


def test_a_video_without_the_protagonist_shows_none(story):
    empty = story.truth.background_at(range(story.frames.shape[1])).transpose(0, 1)
    verdict = storyworld.evaluate(empty, story)
    assert verdict.visible_share < 0.02
    assert verdict.direction_share == 0.0
    assert verdict.place_share == 1.0


def test_a_screen_of_its_colour_is_not_the_protagonist(story):
    flat = story.truth.subject_colours[0][:, None, None, None].expand_as(story.frames)
    assert storyworld.evaluate(flat, story).visible_share == 0.0


def test_a_mirrored_video_moves_the_wrong_way(story):
    verdict = storyworld.evaluate(story.frames.flip(3), story)
    walks = story.truth.direction != 0
    assert (verdict.direction[walks] == -story.truth.direction[walks]).all()


def test_a_frozen_video_stands_still(story):
    ends = torch.tensor(story.chunk_frames).cumsum(0) - 1
    frozen = story.frames[:, ends[story.truth.chunk_of_frame]]
    assert (storyworld.evaluate(frozen, story).direction == 0).all()


def test_a_place_that_takes_another_ones_looks_is_found_out(story):
    truth = story.truth
    frames = story.frames.clone()
    first = storyworld.evaluate(frames, story)
    chunk = int((first.place >= 0).nonzero()[0])
    other = next(p for p in truth.place[:chunk].tolist() if p != int(truth.place[chunk]))
    shown = truth.chunk_of_frame == chunk
    frames[:, shown] = truth.backgrounds[other][:, None].expand(-1, int(shown.sum()), -1, -1)
    verdict = storyworld.evaluate(frames, story)
    assert int(verdict.place[chunk]) == other
    assert verdict.place_share < 1.0


def test_another_length_is_refused(story):
    with pytest.raises(
        ValueError, match=r"shape \(3, 10, 64, 64\), the story \(3, 317, 64, 64\); render the story with"
    ):
        storyworld.evaluate(story.frames[:, :10], story)
