"""Characters at richness 2: patterns, light, size, and how they are pasted over a picture with a shadow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.characters import draw_character
from storyworld.elements import SPECIES
from storyworld.shaded_characters import (
    PATTERNS,
    Look,
    Pose,
    draw_look,
    feet,
    paint_character,
    paste,
    paste_shadow,
    patch_size,
)

WHITE = np.ones((1, 3), dtype=np.float32)
GREY = np.full((3, 3), 0.5, dtype=np.float32)


def pose(x=32.0, y=55.0, facing=1.0, gait=0.0, tall=1.0):
    return Pose(**{
        name: np.array([value], dtype=np.float32)
        for name, value in (("x", x), ("y", y), ("facing", facing), ("gait", gait), ("tall", tall))
    })  # fmt: skip


def grey(species="bear", pattern="patch", marking=0.5):
    """A character of one colour, so that only light and pattern are seen."""
    return Look(species=species, colours=GREY, pattern=pattern, marking=np.full(3, marking, dtype=np.float32))


def test_a_shadow_darkens_softly_and_less_from_the_air():
    white = np.ones((2, 64, 3, 64), dtype=np.float32)
    paste_shadow(white, x=np.full(2, 32.0), row=55.0, lift=np.array([0.0, 9.0]), sun=1)
    assert white.max() == 1.0
    assert 0.4 < white[0].min() < white[1].min() < 0.9
    assert np.abs(np.diff(white[0, 55, 0])).max() < 0.15


@pytest.mark.parametrize("sun", [-1, 1])
def test_a_shadow_falls_away_from_the_sun_and_leaves_the_sky_alone(sun):
    white = np.ones((1, 64, 3, 64), dtype=np.float32)
    paste_shadow(white, x=np.array([32.0]), row=55.0, lift=np.array([0.0]), sun=sun)
    taken = 1.0 - white[0, :, 0].sum(0) / 64.0
    column = (taken * (np.arange(64) + 0.5)).sum() / taken.sum()
    assert (column - 32.0) * sun == pytest.approx(-1.5, abs=0.2)
    assert (white[0, :50] == 1.0).all()
    assert (1.0 - white[0, 55, 2].min()) < (1.0 - white[0, 55, 0].min())  # blue is darkened least


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SPECIES))
def test_a_look_is_drawn_from_the_world(seed, species):
    look, again = (draw_look(species, np.random.default_rng(seed), taken=WHITE, distance=0.3) for _ in range(2))
    assert look.species == species
    assert look.pattern in PATTERNS
    assert look.colours.shape == (3, 3)
    assert 0.0 <= min(look.colours.min(), look.marking.min()) <= max(look.colours.max(), look.marking.max()) <= 1.0
    assert np.linalg.norm(look.colours[0] - WHITE) >= 0.3
    assert np.array_equal(look.colours, again.colours)
    body, accent, ink = look.colours.sum(1)
    assert ink < body < accent  # dark eyes, a pale accent


def test_every_pattern_comes_up():
    looks = [draw_look("fox", np.random.default_rng(seed), taken=WHITE, distance=0.0) for seed in range(40)]
    assert {look.pattern for look in looks} == set(PATTERNS)


@pytest.mark.parametrize("species", SPECIES)
def test_looking_left_is_the_mirror_image_under_a_mirrored_sun(species):
    look = grey(species, "spots", marking=0.1)
    right = paint_character(look, pose(facing=1.0), sun=1)
    left = paint_character(look, pose(facing=-1.0), sun=-1)
    assert np.allclose(right[..., ::-1], left, atol=1e-5)


@pytest.mark.parametrize("sun", [-1, 1])
def test_the_side_towards_the_sun_is_brighter(sun):
    patch = paint_character(grey(), pose(), sun=sun)[0]
    full = patch[:, 3] == 1.0
    columns = np.broadcast_to(np.arange(patch.shape[2]), full.shape)
    bright = patch[:, 0]
    middle = patch.shape[2] / 2
    right, left = (bright[full & side].mean() for side in (columns > middle + 3, columns < middle - 3))
    assert (right - left) * sun > 0.005


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_marks_a_part_of_the_body_and_nothing_else(pattern):
    plain = paint_character(grey(pattern=pattern), pose(), sun=1)[0]
    marked = paint_character(grey(pattern=pattern, marking=0.0), pose(), sun=1)[0]
    changed = np.abs(plain[:, :3] - marked[:, :3]).max(1) > 1e-3
    assert np.array_equal(plain[:, 3], marked[:, 3])
    share = changed.sum() / (plain[:, 3] > 0.5).sum()
    assert 0.02 < share < 0.6
    assert not changed[: int(feet(1.0)) - 19].any()  # the head is plain


def test_patterns_differ():
    marks = [paint_character(grey(pattern=pattern, marking=0.0), pose(), sun=1) for pattern in PATTERNS]
    for i, one in enumerate(marks):
        for other in marks[i + 1 :]:
            assert np.abs(one - other).max() > 0.2


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_size_scales_the_area_and_the_feet_stay_on_their_row(species, scale):
    patch = paint_character(grey(species), pose(), sun=1, scale=scale)[0]
    whole = paint_character(grey(species), pose(), sun=1)[0]
    assert patch.shape == (patch_size(scale), 4, patch_size(scale))
    assert patch_size(scale) % 2 == 0
    assert patch[:, 3].sum() / whole[:, 3].sum() == pytest.approx(scale**2, rel=0.06)
    lowest = np.nonzero(patch[:, 3].max(1) > 0.5)[0].max() + 1
    assert abs(lowest - feet(scale)) <= 2
    assert (patch[:, :3] <= patch[:, 3:] + 1e-6).all()


@pytest.mark.parametrize("species", SPECIES)
def test_the_outline_is_that_of_the_plainer_character(species):
    at = pose(x=32.3, y=55.4, gait=0.9)
    patch = paint_character(grey(species), at, sun=1)[0]
    _, alpha = draw_character(
        species, colours=GREY, facing=at.facing, gait=at.gait, offset=np.array([[0.3, 0.4]], dtype=np.float32)
    )
    assert np.allclose(patch[:, 3], alpha[0], atol=1e-4)


@pytest.mark.parametrize("sun", [-1, 1])
def test_light_makes_no_colour_brighter_than_white(sun):
    white = np.ones((3, 3), dtype=np.float32)
    patch = paint_character(Look(species="bear", colours=white, pattern="spots", marking=white[0]), pose(), sun=sun)
    assert (patch[:, :, :3] <= patch[:, :, 3:]).all()
    assert (patch[:, :, :3] == 1.0).any()


def test_a_taller_character_reaches_higher():
    tops = [
        np.nonzero(paint_character(grey(), pose(tall=tall), sun=1)[0][:, 3].max(1) > 0.5)[0].min()
        for tall in (0.8, 1.0)
    ]
    assert tops[1] < tops[0]


@settings(max_examples=40, deadline=None)
@given(st.floats(-40.0, 104.0), st.floats(-40.0, 104.0))
def test_pasting_changes_what_is_covered_and_cuts_off_the_rest(x, y):
    at = pose(x=x, y=y)
    patch = paint_character(grey(), at, sun=1)
    picture = np.ones((1, 64, 3, 64), dtype=np.float32)
    covered = paste(picture, patch, at)
    assert covered.shape == (1, 64, 64)
    assert 0.0 <= covered.min() <= covered.max() <= 1.0
    assert np.array_equal((picture != 1.0).any(2)[0], covered[0] > 0.0)
    side = patch_size(1.0)
    left, top = int(np.floor(x)) - side // 2, int(np.floor(y)) - int(feet(1.0))
    if 0 <= left <= 64 - side and 0 <= top <= 64 - side:
        assert np.array_equal(covered[0, top : top + side, left : left + side], patch[0, :, 3])
    if not (-side < left < 64 and -side < top < 64):
        assert not covered.any()


def test_what_is_pasted_hides_what_was_there():
    at = pose()
    patch = paint_character(grey(), at, sun=1)
    black, white = np.zeros((1, 64, 3, 64), dtype=np.float32), np.ones((1, 64, 3, 64), dtype=np.float32)
    covered = paste(black, patch, at)
    paste(white, patch, at)
    full = covered[0] == 1.0
    assert full.sum() > 100
    assert np.abs(black - white)[0].transpose(0, 2, 1)[full].max() < 1e-6
    assert np.allclose((white - black)[0].transpose(0, 2, 1), 1.0 - covered[0][..., None], atol=1e-6)
