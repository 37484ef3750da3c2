"""Scenery: sky, hills and ground of a place, lit from one side."""

import numpy as np
import pytest

from storyworld.layers import GROUND, LANDMARK, SKY, stack, stack_regions
from storyworld.motion import BASELINE
from storyworld.palettes import draw_palette
from storyworld.scenery import Scenery

HORIZON = 32.0
STILL = np.zeros(1, dtype=np.float32)
BODY = np.array([0.9, 0.2, 0.2], dtype=np.float32)


def scenery(seed=0, *, sun=1, name="meadow"):
    palette = draw_palette(np.random.default_rng(5), avoid=BODY, others=[])
    return Scenery(palette, np.random.default_rng(seed), horizon=HORIZON, sun=sun, name=name)


def painted(canvas):
    """What the camera at 0 sees of one canvas: premultiplied RGB [h, w, 3] and coverage [h, w]."""
    view = canvas.layer().view(STILL)[0]
    picture = np.zeros((64, 4, 64), dtype=np.float32)
    picture[canvas.layer().rows] = view
    return picture[:, :3].transpose(0, 2, 1), picture[:, 3]


def test_things_shift_more_the_nearer_they_stand():
    one = scenery()
    assert one.rate(HORIZON) == pytest.approx(0.6)
    assert one.rate(BASELINE) == pytest.approx(1.0)
    rates = [float(np.mean(layer.rates)) for layer in one.layers()]
    sky, far, ground, back, middle = rates
    assert sky < far < back < middle < ground
    assert (np.diff(one.ground.rates) > 0).all()
    assert one.ground.rates[int(BASELINE) - one.ground.top] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("name", "depth"), [("meadow", 3.0), ("beach", 11.0), ("harbor", 6.0), ("desert", 4.0)])
def test_landmarks_shift_with_the_ground_that_they_stand_on(name, depth):
    one = scenery(name=name)
    assert one.middle.rates == pytest.approx(one.rate(HORIZON + depth))


@pytest.mark.parametrize("clear", [True, False])
def test_the_sky_is_full_and_paler_below(clear):
    one = scenery(seed=3)
    one.paint_sky(clear=clear)
    rgb, cover = painted(one.sky)
    assert (cover[: int(HORIZON)] == 1.0).all()
    assert np.abs(rgb[0] - one.palette.sky).max() < 0.2
    assert np.abs(rgb[int(HORIZON) - 1].mean(0) - one.palette.haze).max() < 0.05
    region = stack_regions(one.layers(), STILL)[0]
    assert (region == SKY).sum() > 800
    assert (region[: int(HORIZON)] != SKY).any()  # clouds


def test_the_sun_is_on_its_side_of_a_clear_sky():
    for sun in (-1, 1):
        rgb, _ = painted((one := scenery(seed=3, sun=sun)).sky)
        assert not rgb.any()
        one.paint_sky(clear=True)
        rgb, _ = painted(one.sky)
        shining = np.abs(rgb - one.palette.glow).max(2) < 0.02
        columns = np.nonzero(shining)[1]
        assert len(columns) > 10
        assert ((columns - 32) * sun > 0).all()


def test_the_ground_begins_at_the_horizon_and_is_paler_there():
    one = scenery()
    one.paint_ground()
    rgb, cover = painted(one.ground)
    assert not cover[: int(HORIZON) - 1].any()
    assert (cover[int(HORIZON) + 1 :] == 1.0).all()
    near = np.abs(rgb[61:] - one.palette.ground).mean()
    assert near < 0.04
    assert np.abs(rgb[int(HORIZON) + 1] - one.palette.meadow).mean() < 0.04
    region = stack_regions(one.layers(), STILL)[0]
    assert (region[63] == GROUND).any()


def test_hills_stand_on_the_horizon_and_the_farther_ones_are_higher_and_paler():
    one = scenery()
    one.paint_hills(height=8.0)
    tops = []
    for canvas in (one.far, one.back):
        _, cover = painted(canvas)
        rows = np.nonzero(cover.max(1) > 0.9)[0]
        assert rows.max() == int(HORIZON)
        tops.append(rows.min())
    assert tops[0] < tops[1] < HORIZON
    far, back = (painted(canvas)[0][int(HORIZON) - 2].mean(0) for canvas in (one.far, one.back))
    assert np.abs(far - one.palette.haze).sum() < np.abs(back - one.palette.haze).sum()


@pytest.mark.parametrize("sun", [-1, 1])
@pytest.mark.parametrize("way", ["dome", "wall", "slope"])
def test_the_side_towards_the_sun_is_brighter(way, sun):
    one, colour = scenery(sun=sun), np.full(3, 0.5, dtype=np.float32)
    canvas = one.middle
    if way == "dome":
        one.dome(canvas, (32.0, 24.0), (9.0, 9.0), colour)
    elif way == "wall":
        one.wall(
            canvas, np.maximum(np.abs(canvas.x - 32.0) - 9.0, np.abs(canvas.y - 24.0) - 9.0), colour, x=32.0, half=9.0
        )
    else:
        one.slope(canvas, ((23.0, 33.0), (32.0, 12.0), (41.0, 33.0)), colour, x=32.0)
    rgb, cover = painted(canvas)
    bright = np.where(cover == 1.0, rgb.sum(2), np.nan)
    assert np.isfinite(bright).sum() > 150
    assert (np.nanmean(bright[:, 33:]) - np.nanmean(bright[:, :31])) * sun > 0.1


@pytest.mark.parametrize("sun", [-1, 1])
def test_a_thing_casts_its_shadow_away_from_the_sun(sun):
    one = scenery(sun=sun)
    one.paint_ground()
    before, _ = painted(one.ground)
    one.cast_shadow(32.0, 45.0, width=3.0, length=8.0)
    after, _ = painted(one.ground)
    taken = (before - after).sum(2)
    assert taken.min() > -1e-6
    column = (taken * (np.arange(64) + 0.5)).sum() / taken.sum()
    assert (column - 32.0) * sun == pytest.approx(-4.0, abs=0.3)
    rows = np.nonzero(taken.max(1) > 0.02)[0]
    assert 42 <= rows.min() <= rows.max() <= 49


def test_scattered_points_lie_on_the_ground_and_grow_towards_the_front():
    points = scenery(seed=2).scatter(12)
    columns, rows, sizes = (np.array(values) for values in zip(*points, strict=True))
    assert len(points) == 12
    assert (np.diff(rows) > 0).all()
    assert (np.diff(sizes) > 0).all()
    assert HORIZON + 3.0 <= rows[0] < rows[-1] <= 61.0
    assert -8.0 <= columns.min() < columns.max() <= 72.0
    assert len(set(np.round(columns, 3))) == 12
    at_feet = np.interp(BASELINE, rows, sizes)
    assert at_feet == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("what", ["tufts", "pebbles", "flowers", "mushrooms"])
def test_small_things_are_painted_on_the_ground_alone(what):
    one = scenery(seed=1)
    one.paint_ground()
    before = [canvas.layer().paint.copy() for canvas in (one.sky, one.far, one.ground, one.back, one.middle)]
    getattr(one, f"paint_{what}")(10)
    changed = [
        np.abs(canvas.layer().paint - old).max() > 0.05
        for canvas, old in zip((one.sky, one.far, one.ground, one.back, one.middle), before, strict=True)
    ]
    assert changed == [False, False, True, False, False]
    differs = np.abs(one.ground.layer().paint - before[2]).max((0, 2, 3)) > 0.05
    assert differs.sum() > 5
    assert not differs[0]


def test_a_path_leads_from_the_door_to_the_bottom_and_widens():
    one = scenery()
    one.paint_ground()
    before, _ = painted(one.ground)
    one.paint_path(20.0, 38.0)
    changed = np.abs(painted(one.ground)[0] - before).max(2) > 0.02
    widths = changed.sum(1)
    assert not widths[:37].any()
    assert widths[63] > 2 * widths[40] > 0
    assert abs(np.nonzero(changed[39])[0].mean() - 20.0) < 2.5


def test_a_sea_lies_below_the_horizon_and_ends_at_its_shore():
    one = scenery(name="beach")
    one.paint_ground()
    one.paint_sea(9.0, one.palette.main, region=LANDMARK)
    region = stack_regions(one.layers(), STILL)[0]
    rows = np.nonzero(region == LANDMARK)[0]
    assert HORIZON - 1 <= rows.min() < rows.max() <= HORIZON + 10
    assert (region == LANDMARK).sum() > 250
    assert (region[50:] != LANDMARK).all()


def test_all_layers_together_fill_the_picture():
    one = scenery()
    one.paint_sky(clear=False)
    one.paint_ground()
    cover = np.maximum(painted(one.sky)[1], painted(one.ground)[1])
    assert (cover > 0.99).all()
    picture = stack(one.layers(), STILL)
    assert picture.shape == (1, 64, 3, 64)
    assert picture.min() > 0.2
