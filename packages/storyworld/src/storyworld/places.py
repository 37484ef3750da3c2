"""Places at richness 0 and 1: colours, horizon and landmarks, drawn at random for each video."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyworld.layers import SIZE
from storyworld.paint import Array, blend, box, convex, coverage, ellipse, segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One place as one video shows it."""

    name: str
    sky: Array
    """[3] RGB in [0, 1] at the top of the picture."""
    ground: Array
    """[3] RGB at the bottom of the picture."""
    landmark: Array
    """[2, 3] RGB: main colour of the landmark, and colour of its details."""
    horizon: float
    """Row of the horizon in units."""
    picture: Array
    """[h, w, 3] the place without characters, RGB in [0, 1]."""
    region: NDArray[np.uint8]
    """[h, w] 0 sky, 1 ground, 2 landmark; 255 for a pixel that shows several of them."""


def draw_colour(rng: np.random.Generator, *, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    """Draw a colour of random hue, RGB in [0, 1].

    Args:
        rng: Source of the draws.
        saturation: Range of the saturation, in [0, 1].
        value: Range of the value (brightness), in [0, 1].
    """
    hue, s, v = rng.uniform(0.0, 6.0), rng.uniform(*saturation), rng.uniform(*value)
    k = (np.array([5.0, 3.0, 1.0]) + hue) % 6.0
    return (v - v * s * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)).astype(np.float32)


def draw_distinct(
    rng: np.random.Generator,
    taken: list[Array],
    *,
    distance: float,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Array:
    """Draw a colour that keeps away from other colours.

    Args:
        rng: Source of the draws.
        taken: Colours to keep away from, RGB in [0, 1].
        distance: Euclidean distance in RGB that is enough. Of 64 draws the first that keeps it is taken, or else the
            one that is farthest away.
        saturation: Range of the saturation, in [0, 1].
        value: Range of the value (brightness), in [0, 1].
    """
    draws = [draw_colour(rng, saturation=saturation, value=value) for _ in range(64)]
    gaps = [min((float(np.linalg.norm(d - t)) for t in taken), default=9.0) for d in draws]
    return draws[next((i for i, gap in enumerate(gaps) if gap >= distance), int(np.argmax(gaps)))]


def draw_place(name: str, rng: np.random.Generator, *, avoid: list[Array], richness: int, size: int = SIZE) -> Place:
    """Draw a place and paint its picture.

    Args:
        name: One of ``PLACES``.
        rng: Source of the draws.
        avoid: Colours of the protagonist, which those of the place keep away from.
        richness: 0 for flat colours, 1 for gradients and a landmark.
        size: Height and width of the picture in pixels.
    """
    sky = draw_distinct(rng, avoid, distance=0.35, saturation=(0.1, 0.45), value=(0.75, 0.95))
    ground = draw_distinct(rng, [*avoid, sky], distance=0.3, saturation=(0.2, 0.55), value=(0.45, 0.8))
    main = draw_distinct(rng, [*avoid, sky, ground], distance=0.25, saturation=(0.2, 0.6), value=(0.4, 0.85))
    detail = draw_distinct(rng, [*avoid, main], distance=0.25, saturation=(0.2, 0.6), value=(0.5, 0.9))
    horizon = float(rng.uniform(27.0, 39.0))
    picture, region = _paint(
        name, rng, sky=sky, ground=ground, colours=(main, detail), horizon=horizon, richness=richness, size=size
    )
    return Place(
        name=name,
        sky=sky,
        ground=ground,
        landmark=np.stack([main, detail]),
        horizon=horizon,
        picture=picture,
        region=region,
    )


def _paint(
    name: str,
    rng: np.random.Generator,
    *,
    sky: Array,
    ground: Array,
    colours: tuple[Array, Array],
    horizon: float,
    richness: int,
    size: int,
) -> tuple[Array, NDArray[np.uint8]]:
    resolution = np.float32(size / SIZE)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / resolution
    x, y = np.broadcast_arrays(grid[None, :], grid[:, None])
    down = np.clip((y - horizon) / (SIZE - horizon), 0.0, 1.0)[..., None] if richness else np.ones((size, size, 1))
    up = np.clip(1.0 - y / horizon, 0.0, 1.0)[..., None] if richness else np.ones((size, size, 1))
    # the sky is paler near the horizon, and so is the ground
    picture = (sky + (1.0 - up) * 0.5 * (1.0 - sky)).astype(np.float32)
    soil = (ground + (1.0 - down) * 0.25 * (1.0 - ground)).astype(np.float32)
    land = coverage((horizon - y) * resolution)
    blend(picture, soil, land)
    region = np.where(land > 0.5, 1, 0).astype(np.uint8)
    region[(land > 0.0) & (land < 1.0)] = 255
    if richness:
        for distance, which in _LANDMARKS[name](x, y, rng, horizon):
            cover = coverage(distance * resolution)
            blend(picture, colours[which], cover)
            region[cover > 0.0] = 255
            region[cover == 1.0] = 2
    return picture, region


def _meadow(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    centre = rng.uniform(12.0, 52.0)
    yield ellipse(x, y, centre=(centre, horizon), radii=(10.0, 6.5)), 0
    for _ in range(5):
        at = (centre + rng.uniform(-8.0, 8.0), horizon - rng.uniform(0.0, 4.0))
        yield ellipse(x, y, centre=at, radii=(1.6, 1.6)), 1


def _beach(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    yield box(x, y, centre=(32.0, horizon + 1.5), half=(40.0, 3.0)), 0
    foot = rng.uniform(10.0, 54.0)
    yield segment(x, y, ends=((foot, horizon + 10.0), (foot, horizon - 8.0)), radius=0.8), 1
    roof = np.maximum(ellipse(x, y, centre=(foot, horizon - 6.0), radii=(9.0, 9.0)), y - (horizon - 7.0))
    yield roof, 1


def _forest(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    for k in range(4):
        cx, height = 8.0 + 16.0 * k + rng.uniform(-4.0, 4.0), rng.uniform(16.0, 24.0)
        yield box(x, y, centre=(cx, horizon), half=(1.4, 4.0)), 1
        yield convex(x, y, ((cx - 6.5, horizon - 2.0), (cx, horizon - height), (cx + 6.5, horizon - 2.0))), 0


def _desert(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    cx, half = rng.uniform(18.0, 46.0), rng.uniform(13.0, 18.0)
    yield convex(x, y, ((cx - half, horizon), (cx, horizon - half), (cx + half, horizon))), 0
    stem = (cx + 32.0) % 56.0 + 4.0
    yield segment(x, y, ends=((stem, horizon + 4.0), (stem, horizon - 9.0)), radius=1.8), 1
    yield segment(x, y, ends=((stem, horizon - 2.0), (stem + 4.5, horizon - 6.0)), radius=1.3), 1


def _village(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    for k in range(3):
        cx, half, tall = 11.0 + 21.0 * k + rng.uniform(-3.0, 3.0), rng.uniform(5.0, 7.0), rng.uniform(7.0, 12.0)
        yield box(x, y, centre=(cx, horizon - tall / 2 + 1.0), half=(half, tall / 2)), 0
        top = horizon - tall + 1.0
        yield convex(x, y, ((cx - half - 1.5, top), (cx, top - 6.5), (cx + half + 1.5, top))), 1


def _mountains(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    for k in range(2):
        cx, tall = 18.0 + 28.0 * k + rng.uniform(-6.0, 6.0), rng.uniform(17.0, 25.0)
        base, peak = 0.9 * tall, horizon - tall
        yield convex(x, y, ((cx - base, horizon), (cx, peak), (cx + base, horizon))), 0
        yield convex(x, y, ((cx - 5.4, peak + 6.0), (cx, peak), (cx + 5.4, peak + 6.0))), 1


def _castle(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    cx, tall = rng.uniform(18.0, 46.0), rng.uniform(11.0, 15.0)
    yield box(x, y, centre=(cx, horizon - tall / 2 + 1.0), half=(11.0, tall / 2)), 0
    for side in (-10.0, 10.0):
        yield box(x, y, centre=(cx + side, horizon - tall / 2 - 2.0), half=(3.6, tall / 2 + 3.0)), 0
        top = horizon - tall - 5.0
        yield convex(x, y, ((cx + side - 4.8, top), (cx + side, top - 7.0), (cx + side + 4.8, top))), 1
    yield box(x, y, centre=(cx, horizon - 2.0), half=(2.6, 3.6)), 1


def _harbor(x: Array, y: Array, rng: np.random.Generator, horizon: float) -> Iterator[tuple[Array, int]]:
    tower = rng.uniform(10.0, 54.0)
    yield (
        convex(
            x, y, ((tower - 4.0, horizon + 2.0), (tower - 2.2, 10.0), (tower + 2.2, 10.0), (tower + 4.0, horizon + 2.0))
        ),
        0,
    )
    for row in (14.0, 22.0):
        yield box(x, y, centre=(tower, row), half=(2.6, 1.6)), 1
    yield ellipse(x, y, centre=(tower, 8.4), radii=(3.0, 3.0)), 1
    boat = (tower + 32.0) % 44.0 + 10.0
    yield (
        convex(
            x,
            y,
            (
                (boat - 8.0, horizon - 2.0),
                (boat + 8.0, horizon - 2.0),
                (boat + 5.0, horizon + 3.0),
                (boat - 5.0, horizon + 3.0),
            ),
        ),
        0,
    )
    yield convex(x, y, ((boat, horizon - 3.0), (boat, horizon - 14.0), (boat + 7.0, horizon - 4.0))), 1


_LANDMARKS = {
    "meadow": _meadow,
    "beach": _beach,
    "forest": _forest,
    "desert": _desert,
    "village": _village,
    "mountains": _mountains,
    "castle": _castle,
    "harbor": _harbor,
}
