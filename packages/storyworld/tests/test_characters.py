"""The six species: mirrored when they look left, walking with their legs, standing on their feet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.characters import FEET, PATCH, draw_character
from storyworld.elements import SPECIES

COLOURS = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]], dtype=np.float32)


def drawn(species, *, facing=1.0, gait=0.0, offset=(0.0, 0.0), frames=1):
    ones = np.ones(frames, dtype=np.float32)
    return draw_character(
        species,
        colours=COLOURS,
        facing=facing * ones,
        gait=np.broadcast_to(np.float32(gait), (frames,)),
        offset=np.broadcast_to(np.array(offset, dtype=np.float32), (frames, 2)),
    )


def centre(alpha):
    """Mean row and column."""
    grid = np.arange(PATCH) + 0.5
    return (alpha.sum(1) * grid).sum() / alpha.sum(), (alpha.sum(0) * grid).sum() / alpha.sum()


@pytest.mark.parametrize("species", SPECIES)
def test_a_character_that_looks_left_is_the_mirror_image(species):
    right, left = (drawn(species, facing=facing, gait=0.7) for facing in (1.0, -1.0))
    assert np.allclose(right[0][:, :, ::-1], left[0], atol=1e-5)
    assert np.allclose(right[1][:, :, ::-1], left[1], atol=1e-5)
    assert np.abs(right[1] - left[1]).max() > 0.9  # it is not symmetric


@pytest.mark.parametrize("species", SPECIES)
def test_a_character_has_the_colours_it_is_given(species):
    paint, alpha = drawn(species)
    inside = paint[0][alpha[0] == 1.0]
    for colour in COLOURS:
        assert (np.abs(inside - colour).max(1) < 1e-4).any()
    assert (paint <= alpha[..., None] + 1e-5).all()
    assert paint.min() >= 0.0
    assert alpha.min() == 0.0
    assert alpha.max() == 1.0


@pytest.mark.parametrize("species", SPECIES)
def test_a_character_stands_on_its_feet_inside_its_square(species):
    for gait in np.linspace(0.0, 6.0, 7):
        alpha = drawn(species, gait=gait)[1][0]
        lowest = np.nonzero(alpha.max(1) > 0.5)[0].max()
        assert abs(lowest + 1 - FEET) <= 2.0
        frame = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert frame.max() < 0.5  # it ends within its square
        assert 100 < alpha.sum() < 450


@pytest.mark.parametrize("species", SPECIES)
def test_walking_moves_the_lower_part_and_repeats(species):
    rest, step, again = (drawn(species, gait=gait)[1][0] for gait in (0.0, np.pi / 2, 2.0 * np.pi))
    assert np.allclose(rest, again, atol=1e-4)
    moved = np.abs(rest - step).max(1)
    assert moved[int(FEET) - 8 :].max() > 0.2
    if species != "snail":  # a snail stretches as a whole
        assert moved[: int(FEET) - 12].max() == 0.0


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SPECIES), st.floats(0.0, 0.99), st.floats(0.0, 0.99), st.sampled_from([1.0, -1.0]))
def test_a_character_moves_by_fractions_of_a_pixel(species, right, down, facing):
    """Edges are soft, so that the centre of what is covered follows to 0.06 of a pixel."""
    row, column = centre(drawn(species, facing=facing)[1][0])
    moved = centre(drawn(species, facing=facing, offset=(right, down))[1][0])
    assert moved[0] - row == pytest.approx(down, abs=0.1)
    assert moved[1] - column == pytest.approx(right, abs=0.1)


def test_every_frame_is_drawn_as_it_would_be_alone():
    facing, gait = np.array([1, -1, 1], dtype=np.float32), np.array([0.0, 0.5, 2.0], dtype=np.float32)
    offset = np.array([[0.0, 0.0], [0.3, 0.1], [0.9, 0.5]], dtype=np.float32)
    paint, alpha = draw_character("fox", colours=COLOURS, facing=facing, gait=gait, offset=offset)
    for t in range(3):
        alone = drawn("fox", facing=facing[t], gait=gait[t], offset=offset[t])
        assert np.allclose(paint[t], alone[0][0], atol=1e-6)
        assert np.allclose(alpha[t], alone[1][0], atol=1e-6)


def test_species_have_different_outlines():
    outlines = [drawn(species)[1][0] for species in SPECIES]
    for i, one in enumerate(outlines):
        for other in outlines[i + 1 :]:
            union = np.maximum(one, other).sum()
            assert np.minimum(one, other).sum() / union < 0.85
