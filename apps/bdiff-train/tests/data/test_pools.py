"""Pools give frames of stories and of videos, at the same lengths."""

from types import SimpleNamespace

import pytest
import torch

import storyworld
from bdiff_train.data import HELD_OUT, StoryPool, VideoConfig, VideoPool, read_videos


def test_a_pool_keeps_pictures_to_a_step_of_a_byte(moving_shapes):
    pool = StoryPool(2)
    truth = storyworld.render(5, 2, richness=1).frames
    assert (pool.clips([5], [3], length=30)[0] - truth[:, 3:33]).abs().max() <= 1 / 255 + 1e-6


@pytest.fixture
def named(monkeypatch):
    """What is rendered, by kind and seed; stands in for the story renderer."""
    asked = []

    def render(seed, num_chunks, *, take, richness, first_chunk_frames, chunk_frames):
        asked.append((take, seed))
        return SimpleNamespace(frames=torch.zeros(3, 1, 1, 1))

    monkeypatch.setattr(storyworld, "render", render)
    return asked


def test_stories_of_several_kinds_come_in_turn_and_each_kind_has_the_same_seeds(named):
    pool, kinds = StoryPool(2, richness=2, takes=("story", "walk")), ["story", "walk"] * 2
    for number in (*range(4), *range(HELD_OUT, HELD_OUT + 4)):
        pool.story(number)
    seeds = [0, 0, 1, 1, HELD_OUT, HELD_OUT, HELD_OUT + 1, HELD_OUT + 1]
    assert named == list(zip(kinds * 2, seeds, strict=True))


def test_stories_of_one_kind_are_numbered_by_their_seeds(named):
    pool = StoryPool(2)
    for number in (7, HELD_OUT + 3):
        pool.story(number)
    assert named == [("story", 7), ("story", HELD_OUT + 3)]


def config_of(folder, **changes):
    return VideoConfig(**{"source": folder, "fps": 8, "height": 16, "width": 16, **changes})


def test_a_pool_gives_excerpts_in_place_of_stories(folder):
    pool = VideoPool(config_of(folder), 2)
    held_out = int(read_videos(folder).held_out[0].video.split()[1][0])
    assert pool.frames_per_story == 37
    assert torch.equal(pool.story(0), pool.story(3))
    assert pool.story(HELD_OUT)[:, 0].float().mean() == pytest.approx(10 * held_out, abs=4)
    clips = pool.clips([0, HELD_OUT], [3, 5], length=9)
    assert clips.shape == (2, 3, 9, 16, 16)
    short = VideoPool(config_of(folder, latent_frames=3), 2)
    assert short.chunk_frames == [9, 12]
    assert short.clips([0], [0], length=21).shape == (1, 3, 21, 16, 16)


def test_chunks_of_a_pool_may_be_longer():
    pool = StoryPool(2, latent_frames=8)
    assert pool.chunk_frames == [29, 32]
    truth = storyworld.render(5, 2, first_chunk_frames=29, chunk_frames=32).frames
    assert (pool.clips([5], [0], length=61)[0] - truth).abs().max() <= 1 / 255 + 1e-6
