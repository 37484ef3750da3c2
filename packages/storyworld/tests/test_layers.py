"""Layers: what is painted on a canvas, and what a camera sees of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.layers import GROUND, LANDMARK, MARGIN, OTHER, SIZE, SKY, Canvas, stack, stack_regions
from storyworld.paint import ellipse

RED, BLUE = np.array([1.0, 0.0, 0.0], dtype=np.float32), np.array([0.0, 0.0, 1.0], dtype=np.float32)
STILL = np.zeros(1, dtype=np.float32)


def middle(picture):
    """Column of the mean weight of pictures [t, h, w]."""
    return (picture.sum(1) * torch.arange(64.0)).sum(1) / picture.sum((1, 2))


def everywhere(canvas):
    return np.full_like(canvas.y, -9.0)


def disc(canvas, x=30.3, y=20.0, radius=6.0):
    return ellipse(canvas.x, canvas.y, centre=(x, y), radii=(radius, radius))


@pytest.mark.parametrize("shift", [-5, 0, 7])
def test_a_layer_shifts_by_its_rate_and_keeps_its_edges(shift):
    canvas = Canvas(0, 64, rates=0.5)
    canvas.fill(np.hypot(canvas.x - 30.3, canvas.y - 20.0) - 6.0, np.ones(3, dtype=np.float32))
    still, moved = (stack((canvas.layer(),), np.array([camera])) for camera in (0.0, 2.0 * shift))
    assert middle(torch.from_numpy(still[:, :, 0])) == pytest.approx(29.8, abs=0.02)  # 30.3 less half a pixel
    assert np.array_equal(np.roll(still, -shift, axis=3), moved)
    half = torch.from_numpy(stack((canvas.layer(),), np.array([0.5]))[:, :, 0])
    assert middle(half) == pytest.approx(float(middle(torch.from_numpy(still[:, :, 0]))) - 0.25, abs=0.02)


def test_rows_shift_at_their_own_rates():
    canvas = Canvas(10, 12, rates=np.array([0.25, 1.0]))
    canvas.fill(np.abs(canvas.x - 30.0) - 2.0, RED)
    still, moved = stack((canvas.layer(),), np.array([0.0, 8.0]))[:, :, 0]
    assert np.array_equal(np.roll(still[10], -2), moved[10])
    assert np.array_equal(np.roll(still[11], -8), moved[11])
    assert not moved[:10].any()
    assert not moved[12:].any()


def test_the_margin_shows_at_the_sides_and_not_more():
    canvas = Canvas(0, 4, rates=1.0)
    canvas.fill(everywhere(canvas), RED)
    cameras = np.array([-MARGIN, MARGIN], dtype=np.float32)
    assert (stack((canvas.layer(),), cameras)[:, :4, 0] == 1.0).all()
    with pytest.raises(IndexError):
        stack((canvas.layer(),), cameras[1:] + 2.0)


@settings(max_examples=25, deadline=None)
@given(st.floats(-9.0, 9.0), st.integers(0, 10**6))
def test_regions_move_with_the_picture(camera, seed):
    rng = np.random.default_rng(seed)
    canvas = Canvas(0, 64, rates=0.7)
    canvas.fill(everywhere(canvas), BLUE, region=SKY)
    canvas.fill(disc(canvas, *rng.uniform(20.0, 40.0, 2)), RED, region=LANDMARK)
    camera = np.array([camera], dtype=np.float32)
    picture, region = stack((canvas.layer(),), camera)[0], stack_regions((canvas.layer(),), camera)[0]
    assert (picture[:, 0][region == LANDMARK] == 1.0).all()
    assert (picture[:, 2][region == SKY] > 0.975).all()
    edge = (picture[:, 0] > 0.02) & (picture[:, 0] < 1.0)
    assert (region[edge] == OTHER).all()
    assert (region == LANDMARK).sum() > 60


def test_nearer_layers_cover_farther_ones():
    far, near = Canvas(0, 64, rates=0.1), Canvas(0, 64, rates=0.9)
    far.fill(everywhere(far), BLUE, region=SKY)
    near.fill(disc(near), RED, region=LANDMARK)
    layers = (far.layer(), near.layer())
    picture, region = stack(layers, STILL)[0], stack_regions(layers, STILL)[0]
    assert picture[20, :, 30].tolist() == [1.0, 0.0, 0.0]
    assert picture[40, :, 30].tolist() == [0.0, 0.0, 1.0]
    assert (region[20, 30], region[40, 30]) == (LANDMARK, SKY)
    assert np.allclose(picture.sum(1), 1.0, atol=1e-6)  # edges mix the two
    assert (region[(picture[:, 0] > 0.05) & (picture[:, 0] < 1.0)] == OTHER).all()
    turned = stack_regions(layers[::-1], STILL)[0]
    assert (turned == SKY).all()


def test_where_nothing_is_painted_there_is_nothing():
    canvas = Canvas(5, 9, rates=1.0)
    canvas.fill(disc(canvas, y=60.0), RED, region=GROUND)  # out of its rows
    assert not stack((canvas.layer(),), STILL).any()
    assert (stack_regions((canvas.layer(),), STILL) == OTHER).all()


@pytest.mark.parametrize(("soft", "opacity"), [(6.0, 1.0), (1.0, 0.5)])
def test_only_what_is_fully_covered_has_a_region(soft, opacity):
    canvas = Canvas(0, 64, rates=1.0)
    canvas.fill(everywhere(canvas), BLUE, region=SKY)
    canvas.fill(disc(canvas), RED, region=LANDMARK, soft=soft, opacity=opacity)
    red = stack((canvas.layer(),), STILL)[0, :, 0]
    region = stack_regions((canvas.layer(),), STILL)[0]
    assert ((region == LANDMARK) == (red == 1.0)).all()
    assert (region[(red > 0.05) & (red < 1.0)] == OTHER).all()
    assert (region[red == 0.0] == SKY).all()
    assert red.max() == opacity


@settings(max_examples=25, deadline=None)
@given(st.floats(-20.0, 84.0), st.floats(-5.0, 69.0), st.floats(1.0, 5.0))
def test_painting_on_a_part_is_painting_on_the_whole(x, y, radius):
    whole, part = Canvas(0, 64, rates=1.0), Canvas(0, 64, rates=1.0)
    for canvas, spot in ((whole, whole), (part, part.around(x, y, radius + 2.0))):
        canvas.fill(everywhere(canvas), BLUE, region=SKY)
        spot.fill(disc(spot, x, y, radius), RED, region=LANDMARK)
    one, other = whole.layer(), part.layer()
    assert np.array_equal(one.paint, other.paint)
    assert np.array_equal(one.region, other.region)


def test_a_ramp_goes_from_dark_to_light_and_stops_at_both():
    canvas = Canvas(0, 64, rates=1.0)
    ramp = canvas.ramp(BLUE, RED, (canvas.y - 16.0) / 32.0)
    assert ramp.shape == (8, 64, 3, SIZE + 2 * MARGIN + 1)
    assert (ramp[:, :16] == BLUE[:, None]).all()
    assert (ramp[:, 48:] == RED[:, None]).all()
    assert (np.diff(ramp[0, 16:48, 0, 0]) > 0).all()
    assert np.allclose(ramp[:, :, 0] + ramp[:, :, 2], 1.0, atol=1e-6)
    canvas.fill(everywhere(canvas), ramp)
    assert stack((canvas.layer(),), STILL)[0, 32, 0, 5] == pytest.approx(0.515625)
