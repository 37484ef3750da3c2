"""The shapes of the six species, and the protagonist at richness 0 and 1."""

from collections.abc import Callable, Iterator

import numpy as np

from storyworld.paint import Array, box, convex, coverage, ellipse, segment

PATCH = 32
"""Side in units of the square in which a character is drawn."""

FEET = 28.0
"""Row of the feet in that square, in units."""

Shape = tuple[Array, int]
"""Signed distance to a part of a character, and the part's colour: BODY, ACCENT or INK."""

BODY, ACCENT, INK = 0, 1, 2
"""Rows of a character's colours. Ink paints the eyes."""


def patch_size(scale: float) -> int:
    """Side in pixels, an even number, of the square that holds a character; ``scale`` is pixels in a unit of it."""
    return 2 * int(np.ceil(PATCH * scale / 2))


def feet(scale: float) -> float:
    """Row of the feet in that square, in pixels."""
    return float(np.rint(FEET * scale))


def inside(first: int, length: int, size: int) -> slice:
    """The part of ``length`` pixels from ``first`` on that lies between 0 and ``size``."""
    return slice(min(max(first, 0), size), min(max(first + length, 0), size))


def draw_character(
    species: str, *, colours: Array, facing: Array, gait: Array, offset: Array, scale: float = 1.0
) -> tuple[Array, Array]:
    """Draw the protagonist for every frame of a video.

    Args:
        species: One of ``SPECIES``.
        colours: [3, 3] RGB in [0, 1] of body, accent and ink.
        facing: [t] 1 looks right, -1 left.
        gait: [t] phase of the walk in radians; constant while standing.
        offset: [t, 2] how far the feet (x, y) are from the square's middle column and its row ``feet(scale)``, less
            than a pixel.
        scale: Pixels in a unit.

    Returns:
        Premultiplied RGB [t, side, side, 3] and coverage [t, side, side]; the side is ``patch_size(scale)``.
    """
    side = patch_size(scale)
    grid = np.arange(side, dtype=np.float32) + 0.5
    # u grows in the direction in which the protagonist looks, v upwards from its feet
    u = (grid[None, None, :] - side / 2 - offset[:, 0, None, None]) / np.float32(scale) * facing[:, None, None]
    v = (feet(scale) - grid[None, :, None] + offset[:, 1, None, None]) / np.float32(scale)
    u, v = np.broadcast_arrays(u, v)
    paint = np.zeros((*u.shape, 3), dtype=np.float32)
    alpha = np.zeros(u.shape, dtype=np.float32)
    for distance, which in SHAPES[species](u, v, gait[:, None, None]):
        cover = coverage(distance * np.float32(scale))
        paint += cover[..., None] * (colours[which] - paint)
        alpha += cover * (1.0 - alpha)
    return paint, alpha


def _legs(u: Array, v: Array, gait: Array, *, at: tuple[float, float], length: float, radius: float) -> Iterator[Shape]:
    for hip, phase in zip(at, (0.0, np.pi), strict=True):
        foot = hip + 0.45 * length * np.sin(gait + phase)
        yield segment(u, v, ends=((hip, length), (foot, radius)), radius=radius), BODY


def _fox(u: Array, v: Array, gait: Array) -> Iterator[Shape]:
    yield segment(u, v, ends=((-6.0, 9.0), (-12.0, 13.0)), radius=2.8), BODY
    yield ellipse(u, v, centre=(-12.8, 13.8), radii=(2.6, 2.6)), ACCENT
    yield from _legs(u, v, gait, at=(-4.5, 4.0), length=6.0, radius=1.5)
    yield ellipse(u, v, centre=(0.0, 8.5), radii=(7.5, 4.6)), BODY
    yield ellipse(u, v, centre=(1.5, 7.0), radii=(4.5, 2.4)), ACCENT
    yield convex(u, v, ((3.0, 17.0), (4.6, 22.0), (6.8, 17.5))), BODY
    yield convex(u, v, ((7.2, 17.5), (9.6, 22.0), (10.6, 16.5))), BODY
    yield ellipse(u, v, centre=(6.6, 14.2), radii=(4.8, 4.4)), BODY
    yield convex(u, v, ((10.0, 15.6), (14.0, 12.6), (9.6, 11.2))), ACCENT
    yield ellipse(u, v, centre=(8.4, 15.2), radii=(1.1, 1.1)), INK


def _rabbit(u: Array, v: Array, gait: Array) -> Iterator[Shape]:
    yield ellipse(u, v, centre=(-7.2, 7.0), radii=(2.8, 2.8)), ACCENT
    yield from _legs(u, v, gait, at=(-3.5, 3.0), length=4.5, radius=1.8)
    yield ellipse(u, v, centre=(-0.5, 7.8), radii=(6.6, 5.6)), BODY
    yield ellipse(u, v, centre=(1.6, 6.6), radii=(3.4, 3.2)), ACCENT
    yield segment(u, v, ends=((3.0, 17.0), (1.4, 24.0)), radius=1.7), BODY
    yield segment(u, v, ends=((6.2, 17.0), (6.6, 24.6)), radius=1.7), BODY
    yield ellipse(u, v, centre=(5.0, 14.6), radii=(4.4, 4.2)), BODY
    yield ellipse(u, v, centre=(6.8, 15.4), radii=(1.1, 1.1)), INK


def _bear(u: Array, v: Array, gait: Array) -> Iterator[Shape]:
    yield from _legs(u, v, gait, at=(-4.6, 4.2), length=5.0, radius=2.6)
    yield ellipse(u, v, centre=(-0.6, 10.4), radii=(8.6, 7.2)), BODY
    yield ellipse(u, v, centre=(1.4, 9.0), radii=(5.0, 4.6)), ACCENT
    for ear in (3.0, 9.4):
        yield ellipse(u, v, centre=(ear, 22.0), radii=(2.2, 2.2)), BODY
    yield ellipse(u, v, centre=(6.2, 18.0), radii=(5.2, 4.8)), BODY
    yield ellipse(u, v, centre=(9.6, 16.4), radii=(2.4, 1.9)), ACCENT
    yield ellipse(u, v, centre=(7.6, 19.2), radii=(1.1, 1.1)), INK


def _duck(u: Array, v: Array, gait: Array) -> Iterator[Shape]:
    yield from _legs(u, v, gait, at=(-1.6, 1.8), length=4.0, radius=1.0)
    yield convex(u, v, ((-6.0, 11.0), (-12.5, 12.6), (-6.0, 5.6))), BODY
    yield ellipse(u, v, centre=(-0.6, 8.0), radii=(8.0, 5.2)), BODY
    yield ellipse(u, v, centre=(-1.6, 8.6), radii=(4.6, 2.6)), ACCENT
    yield segment(u, v, ends=((5.0, 10.0), (5.6, 17.0)), radius=2.3), BODY
    yield convex(u, v, ((8.6, 19.6), (14.6, 17.4), (8.6, 15.6))), ACCENT
    yield ellipse(u, v, centre=(6.2, 18.0), radii=(3.8, 3.8)), BODY
    yield ellipse(u, v, centre=(7.4, 18.8), radii=(1.1, 1.1)), INK


def _snail(u: Array, v: Array, gait: Array) -> Iterator[Shape]:
    stretch = 0.8 * np.sin(gait)
    yield segment(u, v, ends=((-10.0 - stretch, 2.2), (8.0 + stretch, 2.4)), radius=2.3), BODY
    yield segment(u, v, ends=((8.0 + stretch, 3.0), (9.6 + stretch, 9.4)), radius=2.2), BODY
    yield segment(u, v, ends=((9.6 + stretch, 9.4), (12.4 + stretch, 14.0)), radius=0.9), BODY
    yield segment(u, v, ends=((9.0 + stretch, 9.4), (8.8 + stretch, 14.4)), radius=0.9), BODY
    yield ellipse(u, v, centre=(-2.0, 9.8), radii=(7.6, 7.6)), ACCENT
    yield ellipse(u, v, centre=(-1.4, 9.4), radii=(4.8, 4.8)), BODY
    yield ellipse(u, v, centre=(-2.0, 9.0), radii=(2.2, 2.2)), ACCENT
    yield ellipse(u, v, centre=(12.4 + stretch, 14.4), radii=(1.3, 1.3)), INK


def _robot(u: Array, v: Array, gait: Array) -> Iterator[Shape]:
    yield from _legs(u, v, gait, at=(-3.2, 3.2), length=5.0, radius=1.6)
    yield box(u, v, centre=(0.0, 9.6), half=(6.0, 5.0)), BODY
    yield box(u, v, centre=(1.2, 9.8), half=(3.2, 2.4)), ACCENT
    yield segment(u, v, ends=((1.0, 20.0), (1.0, 24.0)), radius=0.8), BODY
    yield ellipse(u, v, centre=(1.0, 24.6), radii=(1.7, 1.7)), ACCENT
    yield box(u, v, centre=(1.0, 18.0), half=(4.8, 3.2)), BODY
    yield box(u, v, centre=(3.4, 18.4), half=(1.9, 1.1)), INK


SHAPES: dict[str, Callable[[Array, Array, Array], Iterator[Shape]]] = {
    "fox": _fox,
    "rabbit": _rabbit,
    "bear": _bear,
    "duck": _duck,
    "snail": _snail,
    "robot": _robot,
}
