"""Daylight: a gain that changes slowly, warm in the evening and bluish at dusk."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from storyworld.daylight import draw_daylight

SEEDS = st.integers(0, 10**6)
DAY = 101 * 8  # frames: the longest day


def daylight(seed, num_frames=DAY):
    return draw_daylight(np.random.default_rng(seed), num_frames, fps=8)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, DAY))
def test_a_longer_video_begins_with_the_daylight_of_the_shorter_one(seed, num_frames):
    assert np.array_equal(daylight(seed)[:num_frames], daylight(seed, num_frames))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_day_has_a_neutral_noon_a_warm_evening_and_a_bluish_dusk(seed):
    light = daylight(seed)
    assert light.shape == (DAY, 3)
    assert light.dtype == np.float32
    assert 0.8 < light.min() < light.max() <= 1.0
    noon, dusk = light[light.mean(1).argmax()], light[light[:, 0].argmin()]
    assert noon.min() > 0.99
    assert dusk[2] > dusk[0] + 0.05
    assert (light[:, 0] - light[:, 2]).max() > 0.02  # more red than blue


def test_the_frame_rate_does_not_change_the_length_of_the_day():
    slow, fast = (draw_daylight(np.random.default_rng(3), 40 * fps, fps=fps) for fps in (4, 8))
    assert np.allclose(slow, fast[::2], atol=1e-6)


def test_light_changes_slowly_and_moderately():
    light = torch.stack([storyworld.render(seed, 12, chunk_frames=16, richness=2).truth.light for seed in (1, 2)])
    assert light.min() > 0.75
    assert light.max() <= 1.0
    assert light.diff(dim=1).abs().max() < 0.005
    assert (light.amax(1) - light.amin(1)).max() > 0.05
    assert not torch.equal(light[0], light[1])
