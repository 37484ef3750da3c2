"""Sky, hills and ground of a place at richness 2, and ways of painting shaded things before them."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from storyworld.layers import GROUND, MARGIN, OTHER, SIZE, SKY, Canvas, Extent, Layer
from storyworld.motion import BASELINE
from storyworld.paint import Array, convex, ellipse, segment
from storyworld.palettes import Palette, mix, tones

_SKY_RATE, _FAR_RATE, _BACK_RATE, _HORIZON_RATE = 0.1, 0.25, 0.45, 0.6
_DEPTHS = {"beach": 11.0, "harbor": 6.0, "desert": 4.0}  # rows below the horizon on which the landmark stands


Round = tuple[tuple[float, float], tuple[float, float]]
"""Centre and radii of an ellipse."""


class Scenery:
    """The layers of a place while they are painted.

    There are five, from the farthest to the nearest: ``sky``, ``far``, ``ground``, ``back`` and ``middle``. Landmarks
    stand on ``middle``.

    Args:
        palette: Colours of the place.
        rng: Source of all draws for the place.
        horizon: Row of the horizon in units.
        sun: Side from which the light comes: 1 right, -1 left.
        name: Name of the place.
        size: Height and width of the picture in pixels.
        way: How far the camera goes to the right of where it starts, in units of the ground at the protagonist's feet.
    """

    def __init__(
        self,
        palette: Palette,
        rng: np.random.Generator,
        *,
        horizon: float,
        sun: int,
        name: str,
        size: int = SIZE,
        way: float = 0.0,
    ) -> None:
        self.name, self.palette, self.rng, self.horizon, self.sun, self.way = name, palette, rng, horizon, sun, way
        self.here = 0.0
        """Position of the camera from which shadows are painted."""
        row, extent = int(horizon), Extent(size=size, right=MARGIN + way)
        self.sky = Canvas(0, row + 2, rates=_SKY_RATE, extent=extent)
        self.far = Canvas(row - 20, row + 2, rates=_FAR_RATE, extent=extent)
        self.ground = Canvas(row, SIZE, rates=self.rate, extent=extent)
        self.back = Canvas(row - 24, row + 5, rates=_BACK_RATE, extent=extent)
        self.middle = Canvas(0, row + 16, rates=self.rate(self.foot), extent=extent)

    @property
    def foot(self) -> float:
        """Row of the ground on which landmarks stand, in units."""
        return self.horizon + _DEPTHS.get(self.name, 3.0)

    @property
    def screens(self) -> tuple[float, ...]:
        """Positions of the camera, a screen apart, that together see all of the ground."""
        return tuple(map(float, range(0, SIZE + int(self.way), SIZE)))

    def rate(self, row: Array | float) -> Array | float:
        """How far a thing that stands on this row of the ground shifts when the camera moves by a unit."""
        return _HORIZON_RATE + (1.0 - _HORIZON_RATE) * (row - self.horizon) / (BASELINE - self.horizon)

    def layers(self) -> tuple[Layer, ...]:
        """The finished layers, from the farthest to the nearest."""
        canvases = (self.sky, self.far, self.ground, self.back, self.middle)
        return tuple(canvas.layer() for canvas in canvases)

    def paint_sky(self, *, clear: bool) -> None:
        """Paint a gradient with clouds, and the sun if the sky is clear."""
        sky, palette, rng = self.sky, self.palette, self.rng
        rise = (sky.y / self.horizon) ** 1.2
        sky.fill(np.full_like(sky.y, -9.0), sky.ramp(palette.sky, palette.haze, rise - 0.04), region=SKY)
        if clear:
            at = (32.0 + self.sun * rng.uniform(12.0, 22.0), rng.uniform(7.0, 12.0))
            sky.fill(ellipse(sky.x, sky.y, centre=at, radii=(9.0, 9.0)), palette.glow, soft=11.0, opacity=0.45)
            sky.fill(ellipse(sky.x, sky.y, centre=at, radii=(3.6, 3.6)), palette.glow, soft=1.2)
        for k in range(int(rng.integers(2, 4)) + round(_SKY_RATE * self.way / 26.0)):
            self._cloud(rng.uniform(-6.0, 14.0) + 26.0 * k, rng.uniform(5.0, 0.5 * self.horizon), rng.uniform(0.8, 1.3))

    def _cloud(self, x: float, y: float, size: float) -> None:
        sky, palette = self.sky, self.palette
        puffs = ((-4.5, -0.6, 3.0), (0.0, -2.0, 4.0), (4.5, -0.4, 2.8), (7.5, 0.4, 1.8), (-7.8, 0.5, 1.8))
        distance = np.minimum.reduce([
            ellipse(sky.x, sky.y, centre=(x + size * u, y + size * v), radii=(size * r * 1.25, size * r))
            for u, v, r in puffs
        ])  # fmt: skip
        distance = np.maximum(distance, sky.y - (y + 1.0 * size))
        share = 0.75 - (sky.y - y) / (4.0 * size)
        sky.fill(distance, sky.ramp(mix(palette.cloud, palette.sky, 0.4), palette.cloud, share), soft=1.8, opacity=0.9)

    def paint_hills(self, *, height: float) -> None:
        """Paint two ridges of hills, the farther one paler."""
        for canvas, lift, air in ((self.far, height, 0.45), (self.back, 0.45 * height, 0.12)):
            colour = mix(self.palette.hill, self.palette.haze, air)
            self.ridge(canvas, colour, lift=lift, swing=0.35 * lift)

    def ridge(self, canvas: Canvas, colour: Array, *, lift: float, swing: float) -> None:
        """Paint rounded hills, paler towards their feet.

        Args:
            canvas: Layer to paint on.
            colour: Colour of the hilltops.
            lift: Mean height in pixels.
            swing: How far the hilltops rise above the mean height.
        """
        first, second = self.rng.uniform(0.0, 6.28, 2)
        wide, narrow = self.rng.uniform(0.09, 0.13), self.rng.uniform(0.19, 0.26)
        wave = np.sin(wide * canvas.x + first) + 0.4 * np.sin(narrow * canvas.x + second)
        crest = self.horizon - lift - swing * wave
        foot = mix(colour, self.palette.haze, 0.5)
        share = (self.horizon - canvas.y) / (lift + swing)
        canvas.fill(np.maximum(crest - canvas.y, canvas.y - self.horizon - 1.0), canvas.ramp(foot, colour, share))

    def paint_ground(self) -> None:
        """Paint ground that is paler far away, with a few broad lighter and darker spots."""
        ground, palette, rng = self.ground, self.palette, self.rng
        dark, light = tones(palette.ground)
        near = (ground.y - self.horizon) / (0.8 * (SIZE - self.horizon))
        ground.fill(self.horizon - ground.y, ground.ramp(palette.meadow, palette.ground, near), region=GROUND)
        for seen, k in product(map(ground.seen_from, self.screens), range(5)):
            row = self.horizon + (60.0 - self.horizon) * (0.2 + 0.16 * k)
            at = (rng.uniform(0.0, 64.0), row)
            shape = ellipse(seen.x, seen.y, centre=at, radii=(rng.uniform(11.0, 19.0), 1.0 + 0.12 * (row - 30.0)))
            seen.fill(shape, light if k % 2 else dark, soft=4.0, opacity=0.28 if k % 2 else 0.16)

    def scatter(self, count: int, *, nearest: float = 61.0) -> list[tuple[float, float, float]]:
        """Draw points on the ground of a screen, from the farthest to the nearest.

        Returns:
            Column, row and size of each; the size is 1 where the protagonist walks and less farther away.
        """
        rng = self.rng
        share = (np.arange(count) + rng.uniform(0.1, 0.9, count)) / count
        rows = self.horizon + 3.0 + (nearest - self.horizon - 3.0) * share
        columns = 64.0 * ((0.618 * np.arange(count) + rng.uniform()) % 1.0) * 1.25 - 8.0
        sizes = 0.4 + 0.6 * (rows - self.horizon) / (BASELINE - self.horizon)
        return list(zip(columns.tolist(), rows.tolist(), sizes.tolist(), strict=True))

    def _strewn(self, count: int, *, reach: float) -> Iterator[tuple[Canvas, float, float, float]]:
        """``count`` points of every screen: the ground around each, its column, row and size."""
        for seen in map(self.ground.seen_from, self.screens):
            for x, y, size in self.scatter(count):
                yield seen.around(x, y, reach), x, y, size

    def paint_tufts(self, count: int) -> None:
        """Paint tufts of three blades of grass."""
        dark, light = tones(self.palette.ground)
        for spot, x, y, size in self._strewn(count, reach=5.0):
            for lean, colour in ((-1.6, dark), (1.6, light), (0.0, dark)):
                blade = segment(spot.x, spot.y, ends=((x, y), (x + lean * size, y - 3.0 * size)), radius=0.5 * size)
                spot.fill(blade, colour, opacity=0.55)

    def paint_pebbles(self, count: int) -> None:
        """Paint small stones."""
        stone = mix(self.palette.meadow, self.palette.ground, 0.3)
        for spot, x, y, size in self._strewn(count, reach=4.0):
            self.dome(spot, (x, y), (1.5 * size, 0.9 * size), stone)

    def paint_flowers(self, count: int) -> None:
        """Paint flowers with two petals and a bright centre."""
        for spot, x, y, size in self._strewn(count, reach=4.0):
            for side in (-0.7, 0.7):
                self.dome(spot, (x + side * size, y), (0.9 * size, 0.9 * size), self.palette.detail)
            self.dome(spot, (x, y), (0.6 * size, 0.6 * size), self.palette.glow)

    def paint_mushrooms(self, count: int) -> None:
        """Paint mushrooms with pale stems and bright caps."""
        for spot, x, y, size in self._strewn(count, reach=5.0):
            stem = segment(spot.x, spot.y, ends=((x, y), (x, y - 1.6 * size)), radius=0.5 * size)
            spot.fill(stem, self.palette.cloud)
            self.dome(spot, (x, y - 2.0 * size), (1.7 * size, 1.1 * size), self.palette.detail)

    def paint_path(self, x: float, row: float) -> None:
        """Paint a winding path from a door at (x, row) to the bottom of the picture."""
        ground = self.ground
        down = np.clip((ground.y - row) / (SIZE - row), 0.0, 1.0)
        middle = x + (32.0 - x) * 0.6 * down + 5.0 * np.sin(3.2 * down) * self.sun
        shape = np.maximum(np.abs(ground.x - middle) - (1.4 + 7.0 * down**1.3), row - ground.y)
        ground.fill(shape, mix(self.palette.meadow, self.palette.haze, 0.45), soft=2.0, opacity=0.7)

    def dome(
        self,
        canvas: Canvas,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: Array,
        *,
        region: int = OTHER,
    ) -> None:
        """Paint an ellipse, lit from above and from the sun's side."""
        shape = ellipse(canvas.x, canvas.y, centre=centre, radii=radii)
        self.mound(canvas, shape, colour, about=(centre, radii), region=region)

    def mound(self, canvas: Canvas, shape: Array, colour: Array, *, about: Round, region: int = OTHER) -> None:
        """Paint a shape, lit as if it were an ellipsoid with centre and radii ``about``."""
        (x, y), (wide, high) = about
        dark, light = tones(colour)
        facing = self.sun * (canvas.x - x) / wide + (y - canvas.y) / high
        canvas.fill(shape, canvas.ramp(dark, light, 0.55 + 0.4 * facing), region=region)

    def wall(self, canvas: Canvas, shape: Array, colour: Array, *, x: float, half: float, region: int = OTHER) -> None:
        """Paint a shape, lit as if it were a pillar with its axis at column ``x`` and the radius ``half``."""
        dark, light = tones(colour)
        share = 0.55 + 0.45 * self.sun * (canvas.x - x) / half
        canvas.fill(shape, canvas.ramp(mix(dark, colour, 0.2), mix(colour, light, 0.9), share), region=region)

    def slope(
        self,
        canvas: Canvas,
        corners: tuple[tuple[float, float], ...],
        colour: Array,
        *,
        x: float,
        region: int = OTHER,
    ) -> None:
        """Paint a convex polygon, lit on the sun's side of column ``x`` and shaded on the other side."""
        dark, light = tones(colour)
        share = 0.5 + 0.45 * self.sun * (canvas.x - x)
        shape = convex(canvas.x, canvas.y, corners)
        canvas.fill(shape, canvas.ramp(dark, mix(colour, light, 0.7), share), region=region)

    def cast_shadow(self, x: float, y: float, *, width: float, length: float) -> None:
        """Paint the shadow of a thing that stands on the ground, as the camera sees it from ``here``.

        Args:
            x: Column of its foot.
            y: Row of its foot.
            width: How far it reaches to either side, in pixels.
            length: Length of the shadow, away from the sun.
        """
        ground = self.ground.seen_from(self.here)
        centre = (x - float(self.rate(y)) * self.here - self.sun * 0.5 * length, y + 0.6)
        shape = ellipse(ground.x, ground.y, centre=centre, radii=(width + 0.5 * length, 2.0))
        ground.fill(shape, tones(tones(self.palette.ground)[0])[0], soft=2.5, opacity=0.42)

    def paint_sea(self, width: float, colour: Array, *, region: int = OTHER) -> None:
        """Paint water from the horizon ``width`` pixels down, with a few glints and a line of foam."""
        ground, rng = self.ground, self.rng
        shore = self.horizon + width + 0.8 * np.sin(0.16 * ground.x + rng.uniform(0.0, 6.28))
        dark, light = tones(colour)
        depth = (ground.y - self.horizon) / width
        foam = mix(self.palette.cloud, self.palette.ground, 0.15)
        sea = np.maximum(ground.y - shore, self.horizon - ground.y)
        ground.fill(np.maximum(ground.y - shore - 1.2, self.horizon - ground.y), foam, soft=1.4, opacity=0.8)
        ground.fill(sea, ground.ramp(mix(colour, light, 0.6), mix(colour, dark, 0.35), depth), region=region)
        for seen, k in product(map(ground.seen_from, self.screens), range(7)):
            x, row = rng.uniform(-MARGIN, SIZE + MARGIN), self.horizon + 1.4 + (width - 3.0) * (k + 0.5) / 7
            glint = segment(seen.x, seen.y, ends=((x, row), (x + rng.uniform(4.0, 9.0), row)), radius=0.35)
            seen.fill(glint, light, opacity=0.5)
