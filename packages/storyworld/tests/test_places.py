"""Places at richness 0 and 1: colours, horizon and landmark, and the region of every pixel."""

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.elements import PLACES
from storyworld.places import draw_colour, draw_distinct, draw_place

SEEDS = st.integers(0, 10**6)
BODY = np.array([0.9, 0.2, 0.2], dtype=np.float32)
SKY, GROUND, LANDMARK, SEVERAL = 0, 1, 2, 255


def place_of(name, seed, richness=1):
    return draw_place(name, np.random.default_rng(seed), avoid=[BODY], richness=richness)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_colour_has_the_saturation_and_the_value_asked_for(seed):
    colour = draw_colour(np.random.default_rng(seed), saturation=(0.2, 0.4), value=(0.5, 0.8))
    _, saturation, value = colorsys.rgb_to_hsv(*colour.tolist())
    assert 0.2 - 1e-4 <= saturation <= 0.4 + 1e-4
    assert 0.5 - 1e-4 <= value <= 0.8 + 1e-4


def test_every_hue_is_drawn():
    rng = np.random.default_rng(0)
    drawn = [draw_colour(rng, saturation=(0.5, 1.0), value=(0.5, 1.0)).tolist() for _ in range(300)]
    hues = [colorsys.rgb_to_hsv(*colour)[0] for colour in drawn]
    assert (np.histogram(hues, bins=6, range=(0, 1))[0] > 25).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.1, 0.5))
def test_a_distinct_colour_keeps_its_distance_or_is_the_farthest_drawn(seed, distance):
    taken = [BODY, np.array([0.2, 0.2, 0.9], dtype=np.float32)]

    def gap(least):
        found = draw_distinct(
            np.random.default_rng(seed), taken, distance=least, saturation=(0.3, 0.9), value=(0.5, 0.9)
        )
        return min(np.linalg.norm(found - colour) for colour in taken)

    assert gap(distance) >= distance
    assert gap(9.0) >= gap(distance)


def test_without_other_colours_the_first_draw_is_taken():
    first = draw_colour(np.random.default_rng(5), saturation=(0.3, 0.9), value=(0.5, 0.9))
    drawn = draw_distinct(np.random.default_rng(5), [], distance=0.5, saturation=(0.3, 0.9), value=(0.5, 0.9))
    assert np.array_equal(first, drawn)


@pytest.mark.parametrize("richness", [0, 1])
@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_a_function_of_its_random_numbers(name, richness):
    one, again, other = (place_of(name, seed, richness) for seed in (3, 3, 4))
    assert one.picture.tobytes() == again.picture.tobytes()
    assert np.array_equal(one.region, again.region)
    assert np.abs(one.picture - other.picture).mean() > 0.02
    assert one.picture.shape == (64, 64, 3)
    assert 0.0 <= one.picture.min() <= one.picture.max() <= 1.0


@pytest.mark.parametrize("name", PLACES)
def test_a_flat_place_is_sky_and_ground_around_a_horizon(name):
    for seed in range(4):
        place = place_of(name, seed, richness=0)
        rows = np.arange(64) + 0.5
        above, below = rows < place.horizon - 0.5, rows > place.horizon + 0.5
        assert (place.picture[above] == place.sky).all()
        assert (place.picture[below] == place.ground).all()
        assert (place.region[above] == SKY).all()
        assert (place.region[below] == GROUND).all()
        assert (above | below).sum() >= 63


@pytest.mark.parametrize("name", PLACES)
def test_a_landmark_stands_at_the_horizon_in_its_own_colours(name):
    for seed in range(4):
        place = place_of(name, seed)
        rows = np.nonzero(place.region == LANDMARK)[0]
        assert len(rows) > 80
        assert rows.min() - 6 < place.horizon < rows.max() + 6
        shown = place.picture[place.region == LANDMARK]
        nearest = np.abs(shown[:, None] - place.landmark).max(2).min(1)
        assert np.quantile(nearest, 0.8) < 1e-5
        assert not (np.abs(place_of(name, seed, richness=0).picture[..., None, :] - place.landmark).max(3) < 0.01).any()


@pytest.mark.parametrize("name", PLACES)
def test_sky_and_ground_grow_paler_towards_the_horizon(name):
    place = place_of(name, 2)
    for column in range(0, 64, 9):
        sky = place.picture[place.region[:, column] == SKY, column]
        ground = place.picture[place.region[:, column] == GROUND, column]
        for strip in (sky, ground[::-1]):  # both towards the horizon
            assert (np.diff(strip.min(1)) >= -1e-6).all()
    assert np.abs(place.picture[0] - place.sky)[place.region[0] == SKY].max() < 0.02
    assert np.abs(place.picture[63] - place.ground)[place.region[63] == GROUND].max() < 0.02


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from(PLACES))
def test_the_colours_of_a_place_keep_away_from_the_protagonist_and_from_each_other(seed, name):
    pale = np.array([0.95, 0.7, 0.7], dtype=np.float32)  # a colour that a sky could have
    place = draw_place(name, np.random.default_rng(seed), avoid=[pale], richness=1)
    for colour, least in ((place.sky, 0.35), (place.ground, 0.3), (place.landmark[0], 0.25), (place.landmark[1], 0.25)):
        assert np.linalg.norm(colour - pale) >= least
    assert np.linalg.norm(place.sky - place.ground) >= 0.3
    assert np.linalg.norm(place.landmark[0] - place.landmark[1]) >= 0.25
    assert 27.0 <= place.horizon <= 39.0


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from(PLACES))
def test_the_edge_of_a_landmark_belongs_to_nothing(seed, name):
    place = place_of(name, seed)
    region = place.region
    assert set(np.unique(region)) <= {SKY, GROUND, LANDMARK, SEVERAL}
    inside = region == LANDMARK
    for shift in ((0, 1), (1, 0)):
        beside = np.roll(region, shift, (0, 1))[1:, 1:]
        touching = inside[1:, 1:] & (beside != LANDMARK) & (beside != SEVERAL)
        assert touching.mean() < 0.02  # shapes whose edge falls between two pixels
