"""Every place has its hills, ground and landmarks, and they are seen from everywhere."""

import numpy as np
import pytest

from storyworld.elements import PLACES
from storyworld.landmarks import put_landmarks
from storyworld.layers import GROUND, LANDMARK, SKY, stack, stack_regions
from storyworld.palettes import draw_palette, tones
from storyworld.scenery import Scenery

BODY = np.array([0.9, 0.2, 0.2], dtype=np.float32)
CAMERAS = np.array([-9.0, 0.0, 9.0], dtype=np.float32)


def scenery_of(name, seed, sun=1):
    rng = np.random.default_rng(seed)
    palette = draw_palette(rng, avoid=BODY, others=[], mirror=name == "beach")
    scenery = Scenery(palette, rng, horizon=32.0, sun=sun, name=name)
    scenery.paint_sky(clear=True)
    put_landmarks(scenery)
    return scenery


@pytest.mark.parametrize("name", PLACES)
def test_sky_ground_and_landmark_are_seen_from_every_side(name):
    for seed in range(3):
        for region in stack_regions(scenery_of(name, seed).layers(), CAMERAS):
            for which, least in ((SKY, 250), (GROUND, 350), (LANDMARK, 100)):
                assert (region == which).sum() > least
            assert (region[45:] != SKY).all()
            assert (region[:25] != GROUND).all()


@pytest.mark.parametrize("name", PLACES)
def test_a_landmark_shows_the_colours_of_its_palette(name):
    scenery = scenery_of(name, 1)
    picture = stack(scenery.layers(), CAMERAS).transpose(0, 1, 3, 2)
    shown = picture[stack_regions(scenery.layers(), CAMERAS) == LANDMARK]
    solid = np.stack([tone for c in (scenery.palette.main, scenery.palette.detail) for tone in (c, *tones(c))])
    nearest = np.linalg.norm(shown[:, None] - solid, axis=2).min(1)
    assert np.quantile(nearest, 0.98) < 0.25
    assert np.median(nearest) < 0.15


@pytest.mark.parametrize("name", PLACES)
def test_layers_are_painted_in_range(name):
    for layer in scenery_of(name, 2).layers():
        assert np.isfinite(layer.paint).all()
        assert layer.paint.min() >= 0.0
        assert (layer.paint[:, :, :3] <= layer.paint[:, :, 3:] + 1e-4).all()  # premultiplied
        assert layer.paint[:, :, 3].max() <= 1.0 + 1e-6


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_a_function_of_its_random_numbers(name):
    one, again, other = (stack(scenery_of(name, seed).layers(), CAMERAS) for seed in (4, 4, 5))
    assert one.tobytes() == again.tobytes()
    assert np.abs(one - other).mean() > 0.01


def test_places_differ_in_what_stands_there():
    outlines = [stack_regions(scenery_of(name, 6).layers(), CAMERAS[1:2])[0] == LANDMARK for name in PLACES]
    for i, one in enumerate(outlines):
        for other in outlines[i + 1 :]:
            assert (one & other).sum() / (one | other).sum() < 0.75


def test_light_comes_from_the_side_of_the_sun():
    for name in ("desert", "mountains", "meadow"):
        left, right = (stack(scenery_of(name, 3, sun).layers(), CAMERAS[1:2]) for sun in (-1, 1))
        assert np.abs(left - right).mean() > 0.005
