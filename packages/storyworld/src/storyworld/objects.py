"""Objects that landmarks are made of: trees, houses, towers, boats and mountains, lit from the sun's side.

Each function paints one object at column ``x``, with its foot on row ``foot``.
"""

import numpy as np

from storyworld.layers import LANDMARK, OTHER, Canvas
from storyworld.paint import Array, box, convex, ellipse, segment
from storyworld.palettes import mix, tones
from storyworld.scenery import Scenery


def put_conifer(
    scenery: Scenery, canvas: Canvas, x: float, foot: float, *, height: float, colour: Array, region: int = OTHER
) -> None:
    """Paint a fir of three tiers."""
    canvas = canvas.around(x, foot - 0.5 * height, 0.6 * height + 1.0)
    half, base = 0.3 * height, foot - 0.12 * height
    trunk = mix(tones(tones(colour)[0])[0], scenery.palette.detail, 0.25)
    canvas.fill(box(canvas.x, canvas.y, centre=(x, foot - 0.1 * height), half=(0.05 * height, 0.1 * height)), trunk)
    for k, share in enumerate((1.0, 0.78, 0.55)):
        low, top = base - 0.25 * k * height, base - (0.42 + 0.23 * k) * height
        scenery.slope(canvas, ((x - half * share, low), (x, top), (x + half * share, low)), colour, x=x, region=region)


def put_tree(scenery: Scenery, x: float, foot: float, *, size: float) -> None:
    """Paint a tree: a trunk, and a crown of five balls."""
    canvas, colour = scenery.middle.around(x, foot - 1.2 * size, 1.6 * size), scenery.palette.main
    bark = mix(tones(tones(colour)[0])[0], scenery.palette.detail, 0.2)
    canvas.fill(segment(canvas.x, canvas.y, ends=((x, foot), (x, foot - 1.1 * size)), radius=0.16 * size), bark)
    balls = ((-0.62, 1.25, 0.62), (0.62, 1.25, 0.62), (-0.3, 1.85, 0.62), (0.38, 1.8, 0.6), (0.0, 1.4, 0.7))
    crown = np.minimum.reduce([
        ellipse(canvas.x, canvas.y, centre=(x + u * size, foot - v * size), radii=(r * size, r * size))
        for u, v, r in balls
    ])  # fmt: skip
    about = ((x, foot - 1.5 * size), (1.4 * size, 1.2 * size))
    scenery.mound(canvas, crown, colour, about=about, region=LANDMARK)


def put_parasol(scenery: Scenery, x: float, foot: float) -> None:
    """Paint a parasol with two pale stripes."""
    canvas, palette = scenery.middle.around(x, foot - 9.0, 14.0), scenery.palette
    canvas.fill(segment(canvas.x, canvas.y, ends=((x, foot), (x, foot - 17.0)), radius=0.6), palette.cloud)
    about, hem = ((x, foot - 13.0), (11.0, 8.0)), canvas.y - (foot - 12.5)
    top = np.maximum(ellipse(canvas.x, canvas.y, centre=(x, foot - 12.0), radii=(11.0, 8.5)), hem)
    scenery.mound(canvas, top, palette.detail, about=about, region=LANDMARK)
    for side in (-1.0, 1.0):
        stripe = ellipse(canvas.x, canvas.y, centre=(x + side * 4.6, foot - 12.0), radii=(2.3, 7.6))
        stripe = np.maximum(np.maximum(stripe, hem), top + 0.3)
        scenery.mound(canvas, stripe, palette.cloud, about=about)


def put_boat(scenery: Scenery, x: float, water: float, *, size: float) -> None:
    """Paint a boat with one sail; ``water`` is the row of the waterline."""
    canvas, palette, s = scenery.back.around(x, water - 7.0 * size, 12.0 * size), scenery.palette, size
    mast = ((x, water - 2.5 * s), (x, water - 15.0 * s))
    canvas.fill(segment(canvas.x, canvas.y, ends=mast, radius=0.7 * s), tones(palette.main)[0])
    cloth = ((x + 0.8 * s, water - 15.0 * s), (x + 8.5 * s, water - 4.0 * s), (x + 0.8 * s, water - 4.0 * s))
    about = ((x + 3.0 * s, water - 8.0 * s), (6.0 * s, 8.0 * s))
    scenery.mound(canvas, convex(canvas.x, canvas.y, cloth), palette.detail, about=about)
    deck, keel = water - 2.6 * s, water + 2.2 * s
    hull = ((x - 8.0 * s, deck), (x + 8.5 * s, deck), (x + 5.5 * s, keel), (x - 5.5 * s, keel))
    about = ((x, water), (9.0 * s, 3.0 * s))
    scenery.mound(canvas, convex(canvas.x, canvas.y, hull), mix(palette.detail, palette.main, 0.6), about=about)


def put_pyramid(scenery: Scenery, x: float, foot: float, *, half: float) -> None:
    """Paint a pyramid with one face in the sun and one in the shade."""
    canvas, colour, sun = scenery.middle, scenery.palette.main, scenery.sun
    scenery.cast_shadow(x - sun * 0.6 * half, foot, width=0.6 * half, length=0.8 * half)
    top, edge = (x, foot - 1.15 * half), (x - sun * 0.28 * half, foot)
    dark, light = tones(colour)
    for side, tone in ((sun, mix(colour, light, 0.6)), (-sun, dark)):
        face = convex(canvas.x, canvas.y, (top, edge, (x + side * half, foot)))
        canvas.fill(face, tone, region=LANDMARK)


def put_cactus(scenery: Scenery, x: float, foot: float) -> None:
    """Paint a cactus with two arms."""
    canvas = scenery.middle.around(x, foot - 7.0, 10.0)
    scenery.cast_shadow(x, foot, width=2.0, length=7.0)
    parts = (
        ((x, foot), (x, foot - 14.0), 1.9),
        ((x, foot - 5.5), (x + 4.6, foot - 6.5), 1.3),
        ((x + 4.6, foot - 6.5), (x + 4.6, foot - 10.5), 1.3),
        ((x, foot - 7.5), (x - 4.2, foot - 8.5), 1.2),
        ((x - 4.2, foot - 8.5), (x - 4.2, foot - 11.5), 1.2),
    )
    shape = np.minimum.reduce([segment(canvas.x, canvas.y, ends=(a, b), radius=r) for a, b, r in parts])
    about = ((x, foot - 8.0), (6.0, 9.0))
    scenery.mound(canvas, shape, scenery.palette.detail, about=about, region=LANDMARK)


def put_house(scenery: Scenery, x: float, foot: float, *, half: float, tall: float) -> None:
    """Paint a house with door, window, roof and chimney."""
    canvas, palette = scenery.middle.around(x, foot - 0.5 * tall - 3.0, tall + 4.0), scenery.palette
    dark, eaves = tones(palette.main)[0], foot - tall
    scenery.cast_shadow(x, foot, width=half, length=8.0)
    front = box(canvas.x, canvas.y, centre=(x, foot - tall / 2), half=(half, tall / 2))
    scenery.wall(canvas, front, palette.main, x=x, half=1.4 * half, region=LANDMARK)
    canvas.fill(box(canvas.x, canvas.y, centre=(x, eaves + 0.6), half=(half, 0.7)), dark, opacity=0.6)
    chimney = box(canvas.x, canvas.y, centre=(x - 0.5 * half, eaves - 5.0), half=(1.1, 2.6))
    canvas.fill(chimney, dark, region=LANDMARK)
    wide, high = half + 1.8, eaves - 6.8
    roof = ((x - wide, eaves), (x - 0.45 * half, high), (x + 0.45 * half, high), (x + wide, eaves))
    about = ((x, eaves - 3.0), (half + 2.0, 5.0))
    scenery.mound(canvas, convex(canvas.x, canvas.y, roof), palette.detail, about=about, region=LANDMARK)
    door = box(canvas.x, canvas.y, centre=(x + 0.42 * half, foot - 2.4), half=(1.3, 2.4))
    canvas.fill(door, mix(dark, palette.detail, 0.25))
    canvas.fill(box(canvas.x, canvas.y, centre=(x - 0.4 * half, foot - 0.58 * tall), half=(1.5, 1.5)), palette.glow)


def put_tower(scenery: Scenery, x: float, foot: float, *, half: float, tall: float) -> None:
    """Paint a tower with a pointed roof and a window."""
    canvas, palette, top = (
        scenery.middle.around(x, foot - 0.5 * tall - 4.0, 0.5 * tall + 6.0),
        scenery.palette,
        foot - tall,
    )
    body = box(canvas.x, canvas.y, centre=(x, foot - tall / 2), half=(half, tall / 2))
    scenery.wall(canvas, body, palette.main, x=x, half=half, region=LANDMARK)
    wide = half + 1.4
    scenery.slope(canvas, ((x - wide, top), (x, top - 8.5), (x + wide, top)), palette.detail, x=x, region=LANDMARK)
    canvas.fill(box(canvas.x, canvas.y, centre=(x, top + 4.0), half=(0.9, 1.5)), palette.glow)


def put_peak(
    scenery: Scenery, canvas: Canvas, x: float, *, tall: float, colour: Array, cap: Array | None = None
) -> None:
    """Paint a mountain: a landmark with snow if ``cap`` gives its colour, else a distant one in mist."""
    foot, top, half = scenery.horizon + 2.0, scenery.horizon - tall, 0.95 * tall
    shape = convex(canvas.x, canvas.y, ((x - half, foot), (x, top), (x + half, foot)))
    fall = np.maximum(canvas.y - top, 0.0) / (foot - top)
    crooked = x + 0.16 * tall * np.sin(7.0 * fall) * fall - scenery.sun * 0.15 * half * fall
    lit = 0.5 + 0.6 * scenery.sun * (canvas.x - crooked)
    dark, light = tones(colour)
    region = OTHER if cap is None else LANDMARK
    canvas.fill(shape, canvas.ramp(dark, mix(colour, light, 0.7), lit), region=region)
    if cap is None:
        canvas.fill(shape, scenery.palette.haze, opacity=np.clip(1.2 * fall - 0.6, 0.0, 0.5))
    else:
        snow = np.maximum(shape, canvas.y - top - 0.3 * tall - 1.1 * np.sin(1.5 * (canvas.x - x)))
        canvas.fill(snow, canvas.ramp(*tones(mix(cap, scenery.palette.cloud, 0.5)), lit))


def put_lighthouse(scenery: Scenery, x: float, foot: float, *, top: float) -> None:
    """Paint a lighthouse with coloured bands, on rocks; ``top`` is the row of its platform."""
    canvas, palette = scenery.middle, scenery.palette
    scenery.cast_shadow(x, foot + 4.5, width=6.0, length=7.0)
    rock = mix(palette.ground, tones(palette.main)[0], 0.5)
    for u, v, r in ((-4.5, 1.8, 3.6), (4.0, 2.2, 4.0), (0.0, 2.6, 4.4)):
        scenery.dome(canvas, (x + u, foot + v), (r, 0.7 * r), rock)
    sides = ((x - 4.2, foot + 1.0), (x - 2.5, top), (x + 2.5, top), (x + 4.2, foot + 1.0))
    body = convex(canvas.x, canvas.y, sides)
    scenery.wall(canvas, body, palette.main, x=x, half=3.6, region=LANDMARK)
    for row in (top + 5.5, top + 14.0, top + 22.5):
        band = np.maximum(body, np.abs(canvas.y - row) - 2.0)
        scenery.wall(canvas, band, palette.detail, x=x, half=3.6, region=LANDMARK)
    canvas.fill(box(canvas.x, canvas.y, centre=(x, top), half=(3.6, 0.7)), tones(palette.main)[0], region=LANDMARK)
    canvas.fill(box(canvas.x, canvas.y, centre=(x, top - 2.2), half=(1.9, 1.8)), palette.glow)
    roof = ((x - 2.8, top - 3.8), (x, top - 7.0), (x + 2.8, top - 3.8))
    scenery.slope(canvas, roof, palette.detail, x=x, region=LANDMARK)
