import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import DISFlow, Motion


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
@pytest.mark.parametrize("shift", [(0, 1), (2, 0), (3, 4)])
def test_energy_of_a_shifted_texture_is_the_length_of_the_shift(tools, preset, shift):
    frames = tools.panning(4, 64, 80, shift=shift)
    length = math.hypot(*shift)
    assert Motion(flow=DISFlow(preset=preset)).score(frames) == pytest.approx(length, rel=0.15)


def test_energy_does_not_depend_on_the_direction(tools):
    ahead, back = (Motion().score(tools.panning(3, 64, 64, shift=s)) for s in ((1, 2), (-1, -2)))
    assert ahead == pytest.approx(back, rel=0.1)


def test_a_still_picture_has_no_energy_and_full_smoothness(tools):
    frames = tools.texture(32, 32, seed=0).expand(4, -1, -1, -1)
    assert Motion().score(frames) == 0
    assert Motion(form="smoothness").score(frames) == 1


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_smoothness_equals_slow_loops(reference, t, h, w, seed):
    frames = noise(t, h, w, 3, seed=seed)
    assert Motion(form="smoothness").score(frames) == pytest.approx(reference.smoothness(frames.tolist()), rel=1e-5)


def test_linear_change_is_perfectly_smooth_and_flicker_is_not():
    rising = torch.stack([torch.full((4, 4, 3), 10 * t, dtype=torch.uint8) for t in range(5)])
    flicker = torch.stack([torch.full((4, 4, 3), 100 * (t % 2), dtype=torch.uint8) for t in range(5)])
    assert Motion(form="smoothness").score(rising) == pytest.approx(1, abs=1e-6)
    assert Motion(form="smoothness").score(flicker) == pytest.approx(1 - 100 / 255, abs=1e-6)


class PixelFlow:
    """A flow that is written in the frames themselves: red is to the right, green is down, 128 is no motion."""

    name = "pixel flow"

    def flow(self, frames):
        return (frames[:-1, ..., :2].float() - 128) / 16


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_energy_of_any_flow_equals_the_paper_written_as_loops(reference, t, h, w, seed):
    frames = noise(t, h, w, 3, seed=seed)
    flows = PixelFlow().flow(frames).tolist()
    assert Motion(flow=PixelFlow()).score(frames) == pytest.approx(reference.motion_energy(flows), rel=1e-5)


def test_the_motion_of_a_small_subject_is_seen_in_small_frames(tools):
    frames = tools.texture(64, 96, seed=0).repeat(3, 1, 1, 1)
    for t in range(3):
        frames[t, 20:40, 10 + 2 * t : 30 + 2 * t] = tools.texture(20, 20, seed=1)
    moved = 2.0 * 20 * 20 / (64 * 96)
    assert Motion().score(frames) == pytest.approx(moved, rel=0.2)
    assert Motion(flow=DISFlow(finest=2)).score(frames) != pytest.approx(moved, rel=0.2)


def test_wrong_settings(unchecked):
    with pytest.raises(ValueError, match="form is 'jerk'"):
        Motion(form="jerk")
    with pytest.raises(ValueError, match="preset is 'slow'"):
        DISFlow(preset="slow")
    with pytest.raises(ValueError, match="finest is 5; expected 0"):
        DISFlow(finest=5)
    with pytest.raises(ValueError, match=r"smoothing is -1\.0; expected a standard deviation"):
        DISFlow(smoothing=-1.0)
    assert len({DISFlow().name, DISFlow(finest=1).name, DISFlow(smoothing=2.0).name}) == 3
    with pytest.raises(ValueError, match="computes no optical flow"):
        Motion(form="smoothness", flow=DISFlow())
