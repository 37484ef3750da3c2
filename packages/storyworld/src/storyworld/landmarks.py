"""Hills, ground and landmarks of each place at richness 2."""

from collections.abc import Callable

import numpy as np

from storyworld import objects
from storyworld.layers import LANDMARK
from storyworld.paint import box, ellipse
from storyworld.palettes import mix, tones, water
from storyworld.scenery import Scenery


def put_landmarks(scenery: Scenery) -> None:
    """Paint hills, ground and landmarks of the place; its sky must be painted already."""
    _PLACES[scenery.name](scenery)


def put_open_land(scenery: Scenery) -> None:
    """Paint hills, ground and small things of a wide place, without landmarks; its sky must be painted already."""
    _OPEN_LAND[scenery.name](scenery)


def put_spot(scenery: Scenery, name: str, x: float) -> None:
    """Paint the landmark of a spot, one of ``SPOTS``, in the colours of the palette, around column ``x``."""
    _SPOTS[name](scenery, x, scenery.foot)


def _meadow(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.paint_hills(height=rng.uniform(5.0, 8.0))
    scenery.paint_ground()
    x, size = rng.uniform(14.0, 50.0), rng.uniform(8.5, 10.5)
    for k in range(4):
        bush = ((x + 32.0 + 8.0 * k + rng.uniform(-2.0, 2.0)) % 84.0 - 10.0, horizon - 0.6)
        radii = (rng.uniform(3.5, 5.0), rng.uniform(2.6, 3.8))
        scenery.dome(scenery.back, bush, radii, mix(palette.main, palette.haze, 0.4))
    scenery.cast_shadow(x, horizon + 3.0, width=7.0, length=9.0)
    objects.put_tree(scenery, x, horizon + 3.0, size=size)
    scenery.paint_tufts(9)
    scenery.paint_flowers(16)


def _beach(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.ridge(scenery.far, mix(palette.hill, palette.haze, 0.35), lift=rng.uniform(1.0, 2.5), swing=2.2)
    scenery.paint_ground()
    scenery.paint_sea(7.5, palette.main, region=LANDMARK)
    x, foot = rng.uniform(12.0, 52.0), horizon + 11.0
    objects.put_boat(scenery, (x + 8.0) % 40.0 + 12.0, horizon + 2.0, size=0.5)
    scenery.cast_shadow(x - scenery.sun * 4.0, foot, width=8.0, length=4.0)
    objects.put_parasol(scenery, x, foot)
    scenery.paint_pebbles(8)


def _forest(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.paint_ground()
    for canvas, air, count, tall in ((scenery.far, 0.72, 13, 12.0), (scenery.back, 0.42, 10, 16.0)):
        leaf = mix(palette.main, palette.haze, air)
        for k in range(count):
            x, height = -10.0 + 84.0 * (k + 0.5) / count + rng.uniform(-2.0, 2.0), tall * rng.uniform(0.8, 1.2)
            objects.put_conifer(scenery, canvas, x, horizon + 1.5, height=height, colour=leaf)
    for k in range(4):
        x, height = 6.0 + 17.5 * k + rng.uniform(-4.0, 4.0), rng.uniform(20.0, 27.0)
        scenery.cast_shadow(x, horizon + 3.5, width=0.2 * height, length=0.35 * height)
        objects.put_conifer(
            scenery, scenery.middle, x, horizon + 4.0, height=height, colour=palette.main, region=LANDMARK
        )
    scenery.paint_tufts(10)
    scenery.paint_mushrooms(6)


def _desert(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.ridge(scenery.far, mix(palette.hill, palette.haze, 0.4), lift=5.0, swing=2.0)
    scenery.paint_ground()
    scenery.ridge(scenery.back, mix(palette.meadow, palette.hill, 0.5), lift=1.8, swing=1.2)
    x, half = rng.uniform(20.0, 44.0), rng.uniform(13.0, 17.0)
    objects.put_pyramid(scenery, x - scenery.sun * 1.15 * half, horizon + 2.5, half=0.55 * half)
    objects.put_pyramid(scenery, x, horizon + 2.5, half=half)
    objects.put_cactus(scenery, (x + 32.0) % 56.0 + 4.0, horizon + 6.0)
    scenery.paint_pebbles(9)


def _village(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.paint_hills(height=rng.uniform(6.0, 9.0))
    scenery.paint_ground()
    leaf = mix(mix(palette.ground, palette.hill, 0.5), palette.haze, 0.12)
    for k in range(5):
        x = -6.0 + 17.0 * k + rng.uniform(-3.0, 3.0)
        scenery.dome(scenery.back, (x, horizon - 1.0), (rng.uniform(4.0, 6.0), rng.uniform(5.0, 8.0)), leaf)
    doors = []
    for k in range(3):
        x, half, tall = 11.0 + 21.0 * k + rng.uniform(-3.0, 3.0), rng.uniform(5.5, 7.0), rng.uniform(8.0, 12.0)
        objects.put_house(scenery, x, horizon + 3.0, half=half, tall=tall)
        doors.append(x + 0.42 * half)
    scenery.paint_path(doors[1], horizon + 3.0)
    scenery.paint_tufts(8)


def _mountains(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.paint_ground()
    for canvas, air, count, tall in ((scenery.far, 0.62, 5, 15.0), (scenery.back, 0.35, 4, 13.0)):
        rock = mix(palette.main, palette.haze, air)
        for k in range(count):
            x, high = -8.0 + 80.0 * (k + 0.5) / count + rng.uniform(-4.0, 4.0), tall * rng.uniform(0.75, 1.15)
            objects.put_peak(scenery, canvas, x, tall=high, colour=rock)
    for k in rng.permutation(2).tolist():
        x, high = 18.0 + 28.0 * k + rng.uniform(-6.0, 6.0), rng.uniform(19.0, 25.0)
        objects.put_peak(scenery, scenery.middle, x, tall=high, colour=palette.main, cap=palette.detail)
    leaf = mix(palette.ground, tones(palette.main)[0], 0.55)
    for k in range(7):
        x, foot = -4.0 + 12.0 * k + rng.uniform(-3.5, 3.5), horizon + rng.uniform(2.0, 4.0)
        objects.put_conifer(scenery, scenery.middle, x, foot, height=rng.uniform(6.0, 9.0), colour=leaf)
    scenery.paint_tufts(8)
    scenery.paint_pebbles(5)


def _castle(scenery: Scenery) -> None:
    palette, rng, horizon, canvas = scenery.palette, scenery.rng, scenery.horizon, scenery.middle
    scenery.paint_hills(height=rng.uniform(6.0, 9.0))
    scenery.paint_ground()
    x, tall, foot = rng.uniform(20.0, 44.0), rng.uniform(10.0, 13.0), horizon + 3.0
    scenery.cast_shadow(x, foot, width=14.0, length=9.0)
    objects.put_tower(scenery, x + rng.uniform(-2.5, 2.5), foot, half=3.8, tall=tall + 8.0)
    wall = box(canvas.x, canvas.y, centre=(x, foot - tall / 2), half=(11.0, tall / 2))
    teeth = np.maximum(np.abs((canvas.x - x + 1.5) % 3.0 - 1.5) - 0.8, np.abs(canvas.x - x) - 10.5)
    teeth = np.maximum(teeth, np.abs(canvas.y - (foot - tall - 0.8)) - 1.0)
    scenery.wall(canvas, np.minimum(wall, teeth), palette.main, x=x, half=17.0, region=LANDMARK)
    for side in (-11.0, 11.0):
        objects.put_tower(scenery, x + side, foot, half=3.4, tall=tall + 4.0)
    gate = np.minimum(
        box(canvas.x, canvas.y, centre=(x, foot - 2.0), half=(2.6, 2.0)),
        ellipse(canvas.x, canvas.y, centre=(x, foot - 4.0), radii=(2.6, 2.6)),
    )
    canvas.fill(gate, tones(tones(palette.main)[0])[0])
    scenery.paint_path(x, foot)
    scenery.paint_tufts(8)


def _harbor(scenery: Scenery) -> None:
    palette, rng, horizon = scenery.palette, scenery.rng, scenery.horizon
    scenery.ridge(scenery.far, mix(palette.hill, palette.haze, 0.35), lift=rng.uniform(2.0, 4.0), swing=2.2)
    scenery.paint_ground()
    scenery.paint_sea(8.5, water(palette))
    x = rng.uniform(11.0, 53.0)
    objects.put_boat(scenery, (x + 30.0) % 42.0 + 11.0, horizon + 2.5, size=rng.uniform(0.85, 1.0))
    objects.put_lighthouse(scenery, x, horizon + 5.0, top=11.0)
    scenery.paint_pebbles(7)


_PLACES: dict[str, Callable[[Scenery], None]] = {
    "meadow": _meadow,
    "beach": _beach,
    "forest": _forest,
    "desert": _desert,
    "village": _village,
    "mountains": _mountains,
    "castle": _castle,
    "harbor": _harbor,
}


def _open_meadow(scenery: Scenery) -> None:
    palette, rng = scenery.palette, scenery.rng
    scenery.paint_hills(height=rng.uniform(5.0, 8.0))
    scenery.paint_ground()
    for left in scenery.screens:
        for k in range(3):
            bush = (left + 10.0 + 22.0 * k + rng.uniform(-6.0, 6.0), scenery.horizon - 0.6)
            radii = (rng.uniform(3.5, 5.0), rng.uniform(2.6, 3.8))
            scenery.dome(scenery.back, bush, radii, mix(palette.main, palette.haze, 0.4))
    scenery.paint_tufts(8)
    scenery.paint_flowers(10)


def _open_beach(scenery: Scenery) -> None:
    palette, rng = scenery.palette, scenery.rng
    scenery.ridge(scenery.far, mix(palette.hill, palette.haze, 0.35), lift=rng.uniform(1.0, 2.5), swing=2.2)
    scenery.paint_ground()
    scenery.paint_sea(7.5, palette.main)
    scenery.paint_pebbles(8)


def _open_forest(scenery: Scenery) -> None:
    palette, rng = scenery.palette, scenery.rng
    scenery.paint_ground()
    for canvas, air, gap, tall in ((scenery.far, 0.72, 6.5, 12.0), (scenery.back, 0.42, 8.4, 15.0)):
        leaf = mix(palette.main, palette.haze, air)
        for k in range(int((64.0 + 20.0 + float(canvas.rates.max()) * scenery.way) / gap)):
            x, height = -10.0 + gap * (k + 0.5) + rng.uniform(-2.0, 2.0), tall * rng.uniform(0.75, 1.15)
            objects.put_conifer(scenery, canvas, x, scenery.horizon + 1.5, height=height, colour=leaf)
    scenery.paint_tufts(9)
    scenery.paint_mushrooms(5)


def _open_desert(scenery: Scenery) -> None:
    palette = scenery.palette
    scenery.ridge(scenery.far, mix(palette.hill, palette.haze, 0.4), lift=5.0, swing=2.0)
    scenery.paint_ground()
    scenery.ridge(scenery.back, mix(palette.meadow, palette.hill, 0.5), lift=1.8, swing=1.2)
    scenery.paint_pebbles(9)


def _open_mountains(scenery: Scenery) -> None:
    palette, rng = scenery.palette, scenery.rng
    scenery.paint_ground()
    for canvas, air, gap, tall in ((scenery.far, 0.62, 16.0, 15.0), (scenery.back, 0.35, 20.0, 11.0)):
        rock = mix(palette.main, palette.haze, air)
        for k in range(int((64.0 + 20.0 + float(canvas.rates.max()) * scenery.way) / gap)):
            x, high = -8.0 + gap * (k + 0.5) + rng.uniform(-4.0, 4.0), tall * rng.uniform(0.75, 1.15)
            objects.put_peak(scenery, canvas, x, tall=high, colour=rock)
    scenery.paint_tufts(8)
    scenery.paint_pebbles(5)


def _tree(scenery: Scenery, x: float, foot: float) -> None:
    scenery.cast_shadow(x, foot, width=7.0, length=9.0)
    objects.put_tree(scenery, x, foot, size=scenery.rng.uniform(8.5, 10.5))


def _house(scenery: Scenery, x: float, foot: float) -> None:
    objects.put_house(scenery, x, foot, half=scenery.rng.uniform(7.0, 9.0), tall=scenery.rng.uniform(10.0, 13.0))


def _tower(scenery: Scenery, x: float, foot: float) -> None:
    scenery.cast_shadow(x, foot, width=5.0, length=9.0)
    objects.put_tower(scenery, x, foot, half=scenery.rng.uniform(4.0, 5.0), tall=scenery.rng.uniform(14.0, 18.0))


def _cactus(scenery: Scenery, x: float, foot: float) -> None:
    objects.put_cactus(scenery, x, foot)
    objects.put_cactus(scenery, x + scenery.rng.choice([-1.0, 1.0]) * 9.0, foot)


def _pyramid(scenery: Scenery, x: float, foot: float) -> None:
    objects.put_pyramid(scenery, x, foot, half=scenery.rng.uniform(12.0, 16.0))


def _parasol(scenery: Scenery, x: float, foot: float) -> None:
    scenery.cast_shadow(x - scenery.sun * 4.0, foot, width=8.0, length=4.0)
    objects.put_parasol(scenery, x, foot)


def _firs(scenery: Scenery, x: float, foot: float) -> None:
    main = scenery.palette.main
    for aside in (-10.0, 9.0, 0.0):
        height = scenery.rng.uniform(18.0, 26.0)
        scenery.cast_shadow(x + aside, foot, width=0.2 * height, length=0.35 * height)
        objects.put_conifer(scenery, scenery.middle, x + aside, foot, height=height, colour=main, region=LANDMARK)


def _mountain(scenery: Scenery, x: float, foot: float) -> None:
    palette = scenery.palette
    objects.put_peak(
        scenery, scenery.middle, x, tall=scenery.rng.uniform(18.0, 23.0), colour=palette.main, cap=palette.detail
    )


def _lighthouse(scenery: Scenery, x: float, foot: float) -> None:
    objects.put_lighthouse(scenery, x, foot, top=foot - 24.0)


_OPEN_LAND: dict[str, Callable[[Scenery], None]] = {
    "meadow": _open_meadow,
    "beach": _open_beach,
    "forest": _open_forest,
    "desert": _open_desert,
    "mountains": _open_mountains,
}

_SPOTS: dict[str, Callable[[Scenery, float, float], None]] = {
    "tree": _tree,
    "house": _house,
    "tower": _tower,
    "cactus": _cactus,
    "pyramid": _pyramid,
    "parasol": _parasol,
    "firs": _firs,
    "mountain": _mountain,
    "lighthouse": _lighthouse,
}
