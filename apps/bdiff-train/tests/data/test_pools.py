"""Pools give frames of stories and of videos, at the same lengths."""

import pytest
import torch

import storyworld
from bdiff_train.data import HELD_OUT, StoryPool, VideoConfig, VideoPool, read_videos


def test_a_pool_keeps_pictures_to_a_step_of_a_byte(moving_shapes):
    pool = StoryPool(2)
    truth = storyworld.render(5, 2, richness=1).frames
    assert (pool.clips([5], [3], length=30)[0] - truth[:, 3:33]).abs().max() <= 1 / 255 + 1e-6


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
    with pytest.raises(ValueError, match="latent_frames is 3; the autoencoder is trained on chunks of 5"):
        VideoPool(config_of(folder, latent_frames=3), 2)
