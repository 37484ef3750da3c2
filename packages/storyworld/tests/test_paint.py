"""Signed distances against a slow reference: the nearest of many points on the outline."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyworld.paint import blend, box, convex, coverage, ellipse, segment

GRID = np.arange(64, dtype=np.float32) + 0.5
X, Y = np.meshgrid(GRID, GRID)
NEAR = st.floats(26.0, 38.0)  # well inside the picture
SIZE = st.floats(3.0, 12.0)
TRIANGLE = ((20.0, 44.0), (31.0, 12.0), (50.0, 40.0))


def nearest(outline):
    """Distance of every pixel's middle to the nearest point of an outline [n, 2]."""
    points = np.asarray(outline, dtype=np.float64)
    return np.sqrt(((X[..., None] - points[:, 0]) ** 2 + (Y[..., None] - points[:, 1]) ** 2).min(-1))


def along(corners, count=600):
    """Points on a closed polygon."""
    ends = np.asarray([*corners, corners[0]])
    share = np.linspace(0.0, 1.0, count)[:, None]
    return np.concatenate([a + share * (b - a) for a, b in pairwise(ends)])


@settings(max_examples=20, deadline=None)
@given(NEAR, NEAR, SIZE)
def test_the_distance_to_a_circle_is_exact(x, y, radius):
    distance = ellipse(X, Y, centre=(x, y), radii=(radius, radius))
    assert np.allclose(distance, np.hypot(X - x, Y - y) - radius, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(NEAR, NEAR, SIZE, SIZE)
def test_the_distance_to_an_ellipse_has_the_right_sign_and_is_good_near_its_outline(x, y, a, b):
    distance = ellipse(X, Y, centre=(x, y), radii=(a, b))
    implicit = ((X - x) / a) ** 2 + ((Y - y) / b) ** 2 - 1.0
    clear = np.abs(implicit) > 1e-3
    assert (np.sign(distance) == np.sign(implicit))[clear].all()
    turn = np.linspace(0.0, 2.0 * np.pi, 2000)
    true = nearest(np.stack([x + a * np.cos(turn), y + b * np.sin(turn)], 1))
    close = true < 0.5
    assert np.abs(np.abs(distance) - true)[close].max() < 0.15


@settings(max_examples=15, deadline=None)
@given(NEAR, NEAR, SIZE, SIZE)
def test_the_distance_to_a_box_is_exact(x, y, a, b):
    distance = box(X, Y, centre=(x, y), half=(a, b))
    inside = (np.abs(X - x) < a) & (np.abs(Y - y) < b)
    true = nearest(along([(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)]))
    assert np.allclose(distance, np.where(inside, -true, true), atol=0.03)


@settings(max_examples=15, deadline=None)
@given(NEAR, NEAR, NEAR, NEAR, st.floats(0.5, 4.0))
def test_the_distance_to_a_thick_line_is_exact(ax, ay, bx, by, radius):
    distance = segment(X, Y, ends=((ax, ay), (bx, by)), radius=radius)
    share = np.linspace(0.0, 1.0, 1000)[:, None]
    line = np.array([ax, ay]) + share * np.array([bx - ax, by - ay])
    assert np.allclose(distance, nearest(line) - radius, atol=0.02)


def test_the_distance_to_a_polygon_is_exact_inside_and_never_too_large_outside():
    distance, true = convex(X, Y, TRIANGLE), nearest(along(TRIANGLE))
    inside = distance < 0
    assert inside.sum() == pytest.approx(0.5 * abs(30.0 * -32.0 + 11.0 * 4.0), rel=0.05)  # the area of the triangle
    assert np.allclose(-distance[inside], true[inside], atol=0.05)
    assert (distance[~inside] <= true[~inside] + 0.05).all()


@pytest.mark.parametrize("turns", [1, 2])
def test_the_order_of_the_corners_does_not_matter(turns):
    turned = TRIANGLE[turns:] + TRIANGLE[:turns]
    for corners in (turned, turned[::-1]):
        assert np.allclose(convex(X, Y, corners), convex(X, Y, TRIANGLE), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(NEAR, NEAR, SIZE, SIZE)
def test_the_coverage_of_a_shape_adds_up_to_its_area(x, y, a, b):
    disc = ellipse(X, Y, centre=(x, y), radii=(a, a)), np.pi * a * a, 2.0 * np.pi * a
    rectangle = box(X, Y, centre=(x, y), half=(a, b)), 4.0 * a * b, 4.0 * (a + b)
    line = segment(X, Y, ends=((x - a, y), (x + a, y)), radius=b), 4.0 * a * b + np.pi * b * b, 4.0 * a + 6.28 * b
    for distance, area, outline in (disc, rectangle, line):
        assert coverage(distance).sum() == pytest.approx(area, abs=0.06 * outline)


def test_coverage_falls_from_one_to_zero_across_a_pixel():
    distance = np.array([-9.0, -0.5, -0.25, 0.0, 0.25, 0.5, 9.0])
    assert coverage(distance).tolist() == [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_blending_goes_from_the_picture_to_the_colour_in_place():
    picture = np.full((2, 3, 3), 0.2, dtype=np.float32)
    alpha = np.array([[0.0, 0.5, 1.0], [0.0, 0.0, 0.25]], dtype=np.float32)
    blend(picture, np.array([1.0, 0.2, 0.0], dtype=np.float32), alpha)
    assert picture[0, 0].tolist() == picture[1, 1].tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert picture[0, 1].tolist() == pytest.approx([0.6, 0.2, 0.1])
    assert picture[0, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert picture[1, 2].tolist() == pytest.approx([0.4, 0.2, 0.15])
