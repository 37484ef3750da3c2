"""Layers of scenery that a camera shifts at different rates.

A layer is painted wider than the picture, once for every eighth of a pixel of shift. What the camera sees of it is
then read from the painted rows, without interpolation, and the shapes keep their anti-aliased edges. The axes of
pictures are [..., row, colour, column], because rows are read and blended fastest in this order.

Coordinates are in units: a 64th of the picture's side, so one pixel of a picture of 64 pixels. They are the same at
every size of the picture. Camera shifts are rounded to an eighth of a unit at every size, so that all sizes show the
same moment.
"""

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from storyworld.paint import Array, coverage

SIZE = 64
"""Height and width of the picture in units."""

MARGIN = 13
"""Units painted beyond each side of the picture, for a camera that sways."""

SKY, GROUND, LANDMARK, OTHER = 0, 1, 2, 255
"""Numbers of what a pixel shows. OTHER is several things at once, or none of the three (clouds, far hills, shadows)."""

_STEPS = 8  # steps of a unit in which layers shift


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The size of a picture, and how far layers reach beyond it."""

    size: int = SIZE
    """Height and width of the picture in pixels."""
    left: float = MARGIN
    """Units that a layer of rate 1 reaches beyond the left side of the picture."""
    right: float = MARGIN
    """Units that it reaches beyond the right side."""

    @property
    def resolution(self) -> float:
        """Pixels in a unit."""
        return self.size / SIZE

    @property
    def phases(self) -> int:
        """Steps of a pixel in which layers are painted, at most eight.

        A shift of an eighth of a unit is a whole number of them if the size is a multiple of 64.
        """
        scale, rest = divmod(self.size, SIZE)
        return _STEPS if rest else _STEPS // math.gcd(_STEPS, scale)


_STORY = Extent()


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A painted layer."""

    top: int
    """Its first row in the picture, in pixels."""
    rates: Array
    """[rows] how far each row shifts for a unit of camera."""
    paint: Array
    """[phases, rows, 4, columns] premultiplied RGB in [0, 1], and coverage."""
    region: NDArray[np.uint8]
    """[phases, rows, columns] what each fully covered pixel shows."""
    size: int
    """Height and width of the picture in pixels."""
    margin: int
    """Columns painted to the left of the picture."""

    @property
    def rows(self) -> slice:
        """Its rows in the picture."""
        return slice(self.top, self.top + len(self.rates))

    def view(self, camera: Array) -> Array:
        """The layer as the camera [t] sees it: [t, rows, 4, size]."""
        phase, column = self._shift(camera)
        return sliding_window_view(self.paint, self.size, axis=-1)[phase, np.arange(len(self.rates)), :, column]

    def view_region(self, camera: Array) -> NDArray[np.uint8]:
        """What each pixel of the layer shows, as the camera [t] sees it: [t, rows, size]."""
        phase, column = self._shift(camera)
        return sliding_window_view(self.region, self.size, axis=-1)[phase, np.arange(len(self.rates)), column]

    def _shift(self, camera: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        phases = len(self.paint)
        shift = np.rint(camera[:, None] * self.rates * _STEPS)
        if phases * self.size != _STEPS * SIZE:
            shift = np.rint(shift * (phases * self.size / (_STEPS * SIZE)))
        shift = shift.astype(np.int64)
        return shift % phases, shift // phases + self.margin


class Canvas:
    """A layer while it is painted.

    Args:
        top: First row, in units.
        bottom: Row after the last one, in units.
        rates: How far a row shifts for a unit of camera: one number, [rows], or a function of the rows' middles in
            units.
        extent: Size of the picture, and reach beyond it.
    """

    def __init__(
        self, top: int, bottom: int, *, rates: Array | float | Callable[[Array], Array | float], extent: Extent = _STORY
    ) -> None:
        scale, phases = np.float32(extent.resolution), extent.phases
        self.extent = extent
        self.top = math.floor(top * extent.resolution)
        rows = np.arange(self.top, min(math.ceil(bottom * extent.resolution), extent.size))
        self.y = (rows[None, :, None].astype(np.float32) + np.float32(0.5)) / scale
        """[1, rows, 1] row of each pixel's middle, in units."""
        speed = rates((rows + 0.5) / extent.resolution) if callable(rates) else rates
        self.rates = np.broadcast_to(np.asarray(speed, dtype=np.float32), rows.shape)
        fastest = max(1.0, float(self.rates.max(initial=0.0)))
        self.margin, right = (math.ceil(side * fastest * extent.resolution) for side in (extent.left, extent.right))
        columns = np.arange(self.margin + extent.size + right + 1, dtype=np.float32) + np.float32(0.5) - self.margin
        self.x = (columns + np.arange(phases, dtype=np.float32)[:, None, None] / phases) / scale
        """[phases, 1, columns] column of each pixel's middle when the camera is at 0, in units; [phases, rows, columns]
        on a canvas seen from elsewhere."""
        self._paint = np.zeros((phases, len(rows), 4, len(columns)), dtype=np.float32)
        self._region = np.full((phases, len(rows), len(columns)), OTHER, dtype=np.uint8)

    def seen_from(self, camera: float) -> "Canvas":
        """The canvas with the columns that a camera at this position sees; what is painted there looks upright to it.

        It shares its pixels with the whole canvas.
        """
        part = copy(self)
        part.x = self.x - np.float32(camera) * self.rates[:, None] if camera else self.x
        return part

    def around(self, x: float, y: float, reach: float) -> "Canvas":
        """The part of the canvas at most ``reach`` units from a point in either direction; painting there is faster.

        It shares its pixels with the whole canvas.
        """
        part = copy(self)
        down = np.flatnonzero(np.abs(self.y[0, :, 0] - y) <= reach)
        near = self.x[:, down] if self.x.shape[1] > 1 else self.x
        across = np.flatnonzero((np.abs(near - x) <= reach).any((0, 1)))
        columns = slice(int(across[0]), int(across[-1]) + 1) if across.size else slice(0, 0)
        rows = slice(int(down[0]), int(down[-1]) + 1) if down.size else slice(0, 0)
        part.x = self.x[:, rows if self.x.shape[1] > 1 else slice(None), columns]
        part.y = self.y[:, rows]
        part._paint, part._region = self._paint[:, rows, :, columns], self._region[:, rows, columns]
        return part

    def fill(
        self,
        distance: Array,
        colour: Array,
        *,
        region: int = OTHER,
        soft: float | None = None,
        opacity: Array | float = 1.0,
    ) -> None:
        """Paint a shape.

        Args:
            distance: Signed distance to the shape in units, broadcastable to [phases, rows, columns].
            colour: [3], or [phases, rows, 3, columns] where it varies (see ``ramp``).
            region: What a pixel shows that the shape covers fully.
            soft: Width of its edge in units; None: one pixel, a sharp edge.
            opacity: From 0 to 1, a number or [1, rows, 1].
        """
        width = 1.0 / self.extent.resolution if soft is None else soft
        distance = np.broadcast_to(distance, self._region.shape)
        used = np.flatnonzero((distance < 0.5 * width).any((0, 1)))
        if not used.size:
            return
        part = slice(int(used[0]), int(used[-1]) + 1)
        cover = coverage(distance[..., part] / np.float32(width)) * np.asarray(opacity, dtype=np.float32)
        colour = colour[..., part] if colour.ndim > 1 else colour[:, None]
        rgb, alpha = self._paint[:, :, :3, part], self._paint[:, :, 3, part]
        rgb += cover[:, :, None] * (colour - rgb)
        alpha += cover * (1.0 - alpha)
        self._region[..., part][cover > 0.02] = OTHER
        self._region[..., part][cover >= 1.0] = region

    def ramp(self, dark: Array, light: Array, share: Array) -> Array:
        """Mix two colours, [phases, rows, 3, columns]: ``dark`` at share 0 and below, ``light`` at 1 and above."""
        share = np.clip(np.broadcast_to(share, self._region.shape), 0.0, 1.0)[:, :, None]
        return dark[:, None] + share * (light - dark)[:, None]

    def layer(self) -> Layer:
        """The finished layer."""
        return Layer(
            top=self.top,
            rates=self.rates,
            paint=self._paint,
            region=self._region,
            size=self.extent.size,
            margin=self.margin,
        )


def stack(layers: tuple[Layer, ...], camera: Array) -> Array:
    """The layers over each other as the camera [t] sees them: [t, size, 3, size] RGB in [0, 1].

    Layers are given from the farthest to the nearest.
    """
    size = layers[0].size
    picture = np.zeros((len(camera), size, 3, size), dtype=np.float32)
    for layer in layers:
        seen = layer.view(camera)
        band = picture[:, layer.rows]
        band *= 1.0 - seen[:, :, 3:]
        band += seen[:, :, :3]
    return picture


def stack_regions(layers: tuple[Layer, ...], camera: Array) -> NDArray[np.uint8]:
    """What each pixel shows as the camera [t] sees it: [t, size, size] of SKY, GROUND, LANDMARK and OTHER."""
    size = layers[0].size
    region = np.full((len(camera), size, size), OTHER, dtype=np.uint8)
    for layer in layers:
        cover = layer.view(camera)[:, :, 3]
        band = region[:, layer.rows]
        band[cover > 0.02] = OTHER
        full = cover >= 1.0
        band[full] = layer.view_region(camera)[full]
    return region
