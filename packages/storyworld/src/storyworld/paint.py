"""Anti-aliased shapes: signed distances in pixels, and how much of a pixel a shape covers.

A signed distance is negative inside the shape and positive outside.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

Point = tuple[Array | float, Array | float]
"""Column and row, as numbers or as arrays that broadcast with the pixels' coordinates."""


def coverage(distance: Array) -> Array:
    """Share of a pixel that lies inside a shape, from the signed distance at the pixel's centre."""
    share: Array = np.clip(0.5 - distance, 0.0, 1.0)
    return share


def blend(picture: Array, colour: Array, alpha: Array) -> None:
    """Paint ``colour`` [..., 3] over ``picture`` [..., h, w, 3] in place, as opaque as ``alpha`` [..., h, w]."""
    picture += alpha[..., None] * (colour - picture)


def ellipse(x: Array, y: Array, *, centre: Point, radii: tuple[float, float]) -> Array:
    """Signed distance to an axis-aligned ellipse: exact for circles, a first-order approximation otherwise."""
    u, v = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
    norm: Array = np.sqrt(u * u + v * v)
    if radii[0] == radii[1]:
        circle: Array = (norm - 1.0) * radii[0]
        return circle
    gradient = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2)
    distance: Array = (norm - 1.0) * norm / np.maximum(gradient, 1e-6)
    return distance


def box(x: Array, y: Array, *, centre: Point, half: tuple[float, float]) -> Array:
    """Signed distance to an axis-aligned box, given by its centre and half its width and height."""
    dx, dy = np.abs(x - centre[0]) - half[0], np.abs(y - centre[1]) - half[1]
    outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
    distance: Array = outside + np.minimum(np.maximum(dx, dy), 0.0)
    return distance


def segment(x: Array, y: Array, *, ends: tuple[Point, Point], radius: float) -> Array:
    """Signed distance to a thick line with round ends."""
    (ax, ay), (bx, by) = ends
    px, py, dx, dy = x - ax, y - ay, bx - ax, by - ay
    along = np.clip((px * dx + py * dy) / np.maximum(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
    distance: Array = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2) - radius
    return distance


def convex(x: Array, y: Array, corners: tuple[tuple[float, float], ...]) -> Array:
    """Signed distance to a convex polygon: exact inside it and beside its edges.

    Outside, near a corner, the value is less than the true distance.

    Args:
        x: Columns of the pixels.
        y: Rows of the pixels.
        corners: At least three corners, clockwise or counter-clockwise.
    """
    points = np.array(corners, dtype=np.float32)
    middle = points.mean(0)
    edges: list[Array] = []
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        nx, ny = by - ay, ax - bx
        inside_is_positive = (nx * (middle[0] - ax) + ny * (middle[1] - ay)) >= 0
        sign = -1.0 if inside_is_positive else 1.0
        edges.append(sign * (nx * (x - ax) + ny * (y - ay)) / np.hypot(nx, ny))
    distance = edges[0]
    for edge in edges[1:]:
        distance = np.maximum(distance, edge)
    return distance
