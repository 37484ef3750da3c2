"""Palettes: colours in OKLCH, and places before which the protagonist stands out."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.palettes import draw_palette, draw_vivid, mix, oklch, tones, water

SEEDS = st.integers(0, 10**6)
NOTHING = np.ones((1, 3), dtype=np.float32)


def draw_places(seed, count=5, mirror=False):
    """A protagonist's body, and the palettes of the places of one story."""
    rng = np.random.default_rng(seed)
    body = draw_vivid(rng, NOTHING, distance=0.0)
    palettes = []
    for _ in range(count):
        palettes.append(draw_palette(rng, avoid=body, others=palettes, mirror=mirror))
    return body, palettes


@pytest.mark.parametrize(
    ("lightness", "chroma", "degrees", "rgb"),
    [
        (0.62796, 0.25768, 29.234, (1, 0, 0)),
        (0.86644, 0.29483, 142.495, (0, 1, 0)),
        (0.45201, 0.31321, 264.052, (0, 0, 1)),
        (0.59987, 0.0, 0.0, (0.5, 0.5, 0.5)),
    ],
)
def test_known_colours_are_where_the_colour_space_puts_them(lightness, chroma, degrees, rgb):
    assert oklch(lightness, chroma, np.deg2rad(degrees)) == pytest.approx(rgb, abs=2e-2)


def test_greys_are_grey_and_shade_is_darker_than_sun():
    assert np.ptp(oklch(0.7, 0.0, 1.0)) < 1e-3
    assert oklch(1.0, 0.0, 0.0) == pytest.approx(1.0, abs=1e-3)
    for hue in np.linspace(0.0, 6.0, 9):
        shade, sun = tones(oklch(0.65, 0.1, hue))
        assert shade.sum() < sun.sum()


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.0, 0.3), st.floats(0.0, 6.3))
def test_colours_stay_in_range_and_grow_lighter_with_lightness(lightness, chroma, hue):
    dark, light = oklch(lightness, chroma, hue), oklch(lightness + 0.1, chroma, hue)
    for colour in (dark, light):
        assert colour.dtype == np.float32
        assert 0.0 <= colour.min() <= colour.max() <= 1.0
    assert light.sum() > dark.sum()


def test_a_mixture_lies_between_its_colours():
    one, other = np.array([0.0, 0.5, 1.0], dtype=np.float32), np.array([1.0, 0.5, 0.5], dtype=np.float32)
    assert np.array_equal(mix(one, other, 0.0), one)
    assert np.array_equal(mix(one, other, 1.0), other)
    assert mix(one, other, 0.25) == pytest.approx([0.25, 0.5, 0.875])


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.05, 0.4))
def test_a_vivid_colour_keeps_its_distance_if_it_can(seed, distance):
    taken = np.array([[0.9, 0.2, 0.2], [0.2, 0.9, 0.2]], dtype=np.float32)

    def gap(least):
        colour = draw_vivid(np.random.default_rng(seed), taken, distance=least)
        assert np.ptp(colour) > 0.25  # vivid
        return np.linalg.norm(colour - taken, axis=1).min()

    assert gap(distance) >= distance
    assert gap(9.0) >= gap(distance)  # out of reach: the farthest of the draws


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_the_protagonist_stands_out_before_every_place_of_its_story(seed):
    body, palettes = draw_places(seed)
    for palette in palettes:
        assert np.linalg.norm(palette.colours - body, axis=1).min() > 0.18
        for walked_on in (palette.ground, palette.meadow):
            assert np.linalg.norm(walked_on - body) > 0.3


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_the_places_of_a_story_have_different_skies_and_grounds(seed):
    _, palettes = draw_places(seed)
    looks = np.stack([np.concatenate([palette.sky, palette.ground]) for palette in palettes])
    gaps = np.linalg.norm(looks[:, None] - looks, axis=-1) + 9.0 * np.eye(len(looks))
    assert gaps.min() > 0.15


def test_a_palette_is_in_range_and_lists_all_its_colours():
    _, (palette,) = draw_places(4, count=1)
    assert palette.colours.shape[1] == 3
    assert 0.0 <= palette.colours.min() <= palette.colours.max() <= 1.0
    listed = {tuple(colour) for colour in palette.colours.tolist()}
    for field in fields(palette):
        assert tuple(getattr(palette, field.name).tolist()) in listed
    for tone in tones(palette.main):
        assert tuple(tone.tolist()) in listed


def test_water_takes_the_colour_of_the_sky():
    _, (dry,) = draw_places(4, count=1)
    _, (wet,) = draw_places(4, count=1, mirror=True)
    assert np.array_equal(wet.main, water(wet))
    assert not np.array_equal(dry.main, water(dry))
    ends = np.sort(np.stack([wet.sky, tones(wet.sky)[0]]), axis=0)
    assert ((ends[0] < water(wet)) & (water(wet) < ends[1])).all()  # between the sky and the sky in the shade
