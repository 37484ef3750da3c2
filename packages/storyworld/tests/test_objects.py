"""Objects: each stands at the column that it is given, on its own layer, and moves there as a whole."""

import numpy as np
import pytest

from storyworld import objects
from storyworld.layers import LANDMARK, OTHER
from storyworld.palettes import draw_palette
from storyworld.scenery import Scenery

HORIZON, FOOT = 32.0, 36.0
LANDMARKS = ("tree", "parasol", "pyramid", "cactus", "house", "tower", "peak", "lighthouse")


def empty(sun=1):
    palette = draw_palette(np.random.default_rng(5), avoid=np.zeros(3, dtype=np.float32), others=[])
    return Scenery(palette, np.random.default_rng(0), horizon=HORIZON, sun=sun, name="meadow")


def put(name, x, *, sun=1):
    """A scenery with one object in it."""
    scenery = empty(sun)
    palette = scenery.palette
    {
        "conifer": lambda: objects.put_conifer(scenery, scenery.middle, x, FOOT, height=20.0, colour=palette.main),
        "tree": lambda: objects.put_tree(scenery, x, FOOT, size=9.0),
        "parasol": lambda: objects.put_parasol(scenery, x, FOOT + 5.0),
        "boat": lambda: objects.put_boat(scenery, x, HORIZON + 2.0, size=0.9),
        "pyramid": lambda: objects.put_pyramid(scenery, x, FOOT, half=14.0),
        "cactus": lambda: objects.put_cactus(scenery, x, FOOT),
        "house": lambda: objects.put_house(scenery, x, FOOT, half=6.0, tall=10.0),
        "tower": lambda: objects.put_tower(scenery, x, FOOT, half=3.5, tall=18.0),
        "peak": lambda: objects.put_peak(
            scenery, scenery.middle, x, tall=20.0, colour=palette.main, cap=palette.detail
        ),
        "mist": lambda: objects.put_peak(scenery, scenery.middle, x, tall=20.0, colour=palette.main),
        "lighthouse": lambda: objects.put_lighthouse(scenery, x, FOOT, top=11.0),
    }[name]()  # fmt: skip
    return scenery


def layer_of(name, scenery):
    return (scenery.back if name == "boat" else scenery.middle).layer()


ALL = ("conifer", "boat", "mist", *LANDMARKS)
FEET = {"parasol": FOOT + 5.0, "boat": HORIZON + 4.0, "peak": HORIZON + 2.0, "mist": HORIZON + 2.0}
FEET["lighthouse"] = FOOT + 5.5  # of its rocks


@pytest.mark.parametrize("name", ALL)
def test_an_object_moves_as_a_whole(name):
    one, moved = (layer_of(name, put(name, x)) for x in (28.0, 35.0))
    assert np.allclose(np.roll(one.paint, 7, axis=3), moved.paint, atol=2e-3)
    assert (np.roll(one.region, 7, axis=2) != moved.region).mean() < 1e-3


@pytest.mark.parametrize("name", ALL)
def test_an_object_stands_on_its_foot_around_its_column(name):
    layer = layer_of(name, put(name, 32.0))
    cover = layer.paint[0, :, 3]
    rows = np.nonzero(cover.max(1) > 0.5)[0] + layer.top
    assert abs(rows.max() + 1 - FEET.get(name, FOOT)) <= 2
    assert rows.min() < HORIZON - 5
    columns = np.arange(cover.shape[1]) + 0.5 - 13
    assert (cover.sum(0) * columns).sum() / cover.sum() == pytest.approx(32.0, abs=2.5)
    assert cover.sum() > 25


@pytest.mark.parametrize("name", ALL)
def test_only_landmarks_are_marked_as_such(name):
    region = layer_of(name, put(name, 32.0)).region
    assert set(np.unique(region)) <= {OTHER, LANDMARK}
    assert ((region == LANDMARK).sum() > 300) == (name in LANDMARKS)


@pytest.mark.parametrize("name", ["pyramid", "peak", "tree", "house", "lighthouse", "conifer"])
def test_an_object_is_lit_from_the_side_of_the_sun(name):
    bright = []
    for sun in (-1, 1):
        paint = layer_of(name, put(name, 32.0, sun=sun)).paint[0]
        light, cover = paint[:, :3].sum(1), paint[:, 3] > 0.99
        left, right = (light[:, part][cover[:, part]].mean() for part in (slice(0, 44), slice(46, None)))
        bright.append(right - left)
    assert bright[1] - bright[0] > 0.05


@pytest.mark.parametrize("name", ["pyramid", "cactus", "house", "lighthouse"])
def test_an_object_casts_a_shadow_on_the_ground(name):
    ground = put(name, 32.0).ground.layer().paint[0, :, 3]
    columns = np.arange(ground.shape[1]) + 0.5 - 13
    assert ground.max() > 0.2
    assert (ground.sum(0) * columns).sum() / ground.sum() < 31.0  # the sun is on the right


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_painted_on_the_sky_itself(name):
    scenery = put(name, 32.0)
    for canvas in (scenery.sky, scenery.far):
        assert not canvas.layer().paint.any()


def test_a_pyramid_is_widest_at_its_foot():
    layer = put("pyramid", 32.0).middle.layer()
    widths = (layer.paint[0, :, 3] > 0.5).sum(1)
    bottom = int(FOOT) - 1 - layer.top
    assert widths[bottom] == widths.max() == pytest.approx(28, abs=2)
    assert (np.diff(widths[18:bottom]) >= 0).all()


def test_size_scales_an_object():
    areas = []
    for size in (0.5, 1.0):
        scenery = empty()
        objects.put_boat(scenery, 32.0, HORIZON, size=size)
        areas.append(scenery.back.layer().paint[0, :, 3].sum())
    assert areas[1] / areas[0] == pytest.approx(4.0, rel=0.1)


def test_a_peak_with_a_cap_has_snow_on_its_top_and_one_without_fades_into_mist():
    palette = empty().palette
    capped, misty = (layer_of(name, put(name, 32.0)).paint[0] for name in ("peak", "mist"))
    top, foot = 16, int(HORIZON)
    column = 32 + 13
    assert np.abs(capped[top, :3, column] - misty[top, :3, column]).sum() > 0.1
    fade = [np.abs(misty[row, :3, column] - palette.haze).sum() for row in (top + 4, foot)]
    assert fade[1] < fade[0]
