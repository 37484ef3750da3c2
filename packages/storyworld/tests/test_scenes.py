"""Scenes: a place in layers and the companion that lives there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from storyworld.elements import PLACES
from storyworld.motion import BASELINE
from storyworld.scenes import COMPANION_SCALE, draw_scene
from storyworld.shaded_characters import draw_look

CAMERAS = np.array([-9.0, -0.3, 0.0, 4.0, 9.0], dtype=np.float32)
PROTAGONIST = draw_look("fox", np.random.default_rng(1), taken=np.ones((1, 3), dtype=np.float32), distance=0.0)


def scene_of(name, seed, others=()):
    return draw_scene(
        name, np.random.default_rng(seed), protagonist=PROTAGONIST, companion="bear", others=[*others], sun=1
    )


@pytest.fixture(scope="module")
def story():
    return storyworld.render(31, 3, richness=2)


def test_near_layers_shift_more_than_far_ones(story):
    for scene in story.truth.scenes:
        sky, far, ground, back, landmarks = (layer.rates for layer in scene.layers)
        assert sky.max() < far.min() < back.min() < ground.min() <= landmarks.min() < 1.0 < ground.max()
        assert (np.diff(ground) > 0).all()


@pytest.mark.parametrize("name", PLACES)
def test_a_scene_fills_the_picture_from_every_side(name):
    scene = scene_of(name, 2)
    picture, region = scene.background(CAMERAS), scene.regions(CAMERAS)
    assert picture.shape == (5, 64, 3, 64)
    assert 0.05 < picture.min() <= picture.max() <= 1.0 + 1e-5
    assert region.shape == (5, 64, 64)
    assert region.dtype == np.uint8
    assert scene.name == name


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(PLACES), st.integers(0, 10**6), st.floats(-9.0, 9.0))
def test_what_a_camera_sees_depends_on_its_position_alone(name, seed, camera):
    scene = scene_of(name, seed)
    cameras = np.array([3.0, camera, -2.0], dtype=np.float32)
    assert np.array_equal(scene.background(cameras)[1], scene.background(cameras[1:2])[0])
    assert np.array_equal(scene.regions(cameras)[1], scene.regions(cameras[1:2])[0])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(PLACES), st.integers(0, 10**6))
def test_a_companion_stands_at_a_side_and_looks_to_the_middle(name, seed):
    one = scene_of(name, seed).inhabitant
    assert 16.0 <= abs(one.x - 32.0) <= 20.0
    assert one.facing == (1.0 if one.x < 32.0 else -1.0)
    assert 28.0 < one.y < BASELINE
    assert one.rate == pytest.approx(0.6 + 0.4 * COMPANION_SCALE)
    assert one.look.species == "bear"


def test_companions_stand_at_either_side():
    assert {scene_of("desert", seed).inhabitant.x < 32.0 for seed in range(8)} == {True, False}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_a_companion_differs_from_the_protagonist_and_from_its_place(seed):
    scene = scene_of("meadow", seed)
    body = scene.inhabitant.look.colours[0]
    assert np.linalg.norm(body - PROTAGONIST.colours[0]) > 0.2
    assert np.linalg.norm(scene.palette.colours - body, axis=1).min() > 0.2


def test_the_next_place_has_another_sky_and_ground():
    first = scene_of("meadow", 7)
    second = scene_of("meadow", 7, others=[first.palette])
    assert np.array_equal(first.palette.sky, scene_of("meadow", 7).palette.sky)
    looks = [np.concatenate([scene.palette.sky, scene.palette.ground]) for scene in (first, second)]
    assert np.linalg.norm(looks[0] - looks[1]) > 0.22
