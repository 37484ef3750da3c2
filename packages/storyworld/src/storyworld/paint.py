"""Anti-aliased shapes: signed distances in pixels, and the coverage a pixel gets from them."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def coverage(distance: Array) -> Array:
    """Share of a pixel inside a shape whose signed distance (negative inside) at its centre is given."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def blend(picture: Array, colour: Array, alpha: Array) -> None:
    """Paint ``colour`` [..., 3] over ``picture`` [..., h, w, 3] where ``alpha`` [..., h, w] says, in place."""
    picture += alpha[..., None] * (colour - picture)


def ellipse(x: Array, y: Array, *, centre: tuple[Array | float, Array | float], radii: tuple[float, float]) -> Array:
    """Signed distance to an axis-aligned ellipse, first order (exact for circles)."""
    u, v = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
    norm = np.sqrt(u * u + v * v)
    if radii[0] == radii[1]:
        return (norm - 1.0) * radii[0]
    gradient = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2)
    return (norm - 1.0) * norm / np.maximum(gradient, 1e-6)


def box(x: Array, y: Array, *, centre: tuple[Array | float, Array | float], half: tuple[float, float]) -> Array:
    """Signed distance to an axis-aligned box."""
    dx, dy = np.abs(x - centre[0]) - half[0], np.abs(y - centre[1]) - half[1]
    outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0.0)


def segment(x: Array, y: Array, *, ends: tuple[tuple, tuple], radius: float) -> Array:
    """Signed distance to a thick line with round ends."""
    (ax, ay), (bx, by) = ends
    px, py, dx, dy = x - ax, y - ay, bx - ax, by - ay
    along = np.clip((px * dx + py * dy) / np.maximum(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
    return np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2) - radius


def convex(x: Array, y: Array, corners: tuple[tuple[float, float], ...]) -> Array:
    """Signed distance (exact inside and beside edges) to a convex polygon, corners in either order."""
    points = np.array(corners, dtype=np.float32)
    middle = points.mean(0)
    distance = None
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        nx, ny = by - ay, ax - bx
        length = np.hypot(nx, ny)
        side = (nx * (middle[0] - ax) + ny * (middle[1] - ay)) < 0
        sign = 1.0 if side else -1.0
        edge = sign * (nx * (x - ax) + ny * (y - ay)) / length
        distance = edge if distance is None else np.maximum(distance, edge)
    return distance
