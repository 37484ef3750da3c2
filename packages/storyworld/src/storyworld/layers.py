"""Layers of scenery that a panning camera shifts at different rates.

A layer is painted wider than the picture, once for every eighth of a pixel of shift. What the camera sees of it is
then read from the painted rows, without interpolation, and the shapes keep their anti-aliased edges. The axes of
pictures are [..., row, colour, column], because rows are read and blended fastest in this order.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from storyworld.paint import Array, coverage

SIZE = 64
"""Height and width of the picture in pixels."""

MARGIN = 13
"""Columns painted beyond each side of the picture."""

SKY, GROUND, LANDMARK, OTHER = 0, 1, 2, 255
"""Numbers of what a pixel shows. OTHER is several things at once, or none of the three (clouds, far hills, shadows)."""

_PHASES = 8  # steps of a pixel in which layers shift
_WIDTH = SIZE + 2 * MARGIN + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A painted layer."""

    top: int
    """Its first row in the picture."""
    rates: Array
    """[rows] how far each row shifts for a pixel of camera."""
    paint: Array
    """[phases, rows, 4, columns] premultiplied RGB in [0, 1], and coverage."""
    region: NDArray[np.uint8]
    """[phases, rows, columns] what each fully covered pixel shows."""

    @property
    def rows(self) -> slice:
        """Its rows in the picture."""
        return slice(self.top, self.top + len(self.rates))

    def view(self, camera: Array) -> Array:
        """The layer as the camera [t] sees it: [t, rows, 4, SIZE]."""
        phase, column = self._shift(camera)
        return sliding_window_view(self.paint, SIZE, axis=-1)[phase, np.arange(len(self.rates)), :, column]

    def view_region(self, camera: Array) -> NDArray[np.uint8]:
        """What each pixel of the layer shows, as the camera [t] sees it: [t, rows, SIZE]."""
        phase, column = self._shift(camera)
        return sliding_window_view(self.region, SIZE, axis=-1)[phase, np.arange(len(self.rates)), column]

    def _shift(self, camera: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        shift = np.rint(camera[:, None] * self.rates * _PHASES).astype(np.int64)
        return shift % _PHASES, shift // _PHASES + MARGIN


class Canvas:
    """A layer while it is painted.

    Args:
        top: First row.
        bottom: Row after the last one.
        rates: How far a row shifts for a pixel of camera, one number or [rows].
    """

    def __init__(self, top: int, bottom: int, *, rates: Array | float) -> None:
        self.top = top
        self.rates = np.broadcast_to(np.asarray(rates, dtype=np.float32), (bottom - top,))
        columns = np.arange(_WIDTH, dtype=np.float32) + 0.5 - MARGIN
        self.x = columns + np.arange(_PHASES, dtype=np.float32)[:, None, None] / _PHASES
        """[phases, 1, columns] column of each pixel's middle when the camera is at 0."""
        self.y = np.arange(top, bottom, dtype=np.float32)[None, :, None] + 0.5
        """[1, rows, 1] row of each pixel's middle."""
        self._paint = np.zeros((_PHASES, bottom - top, 4, _WIDTH), dtype=np.float32)
        self._region = np.full((_PHASES, bottom - top, _WIDTH), OTHER, dtype=np.uint8)

    def around(self, x: float, y: float, reach: float) -> "Canvas":
        """The part of the canvas at most ``reach`` pixels from a point in either direction; painting there is faster.

        It shares its pixels with the whole canvas.
        """
        part = copy(self)
        across = np.flatnonzero((np.abs(self.x - x) <= reach).any((0, 1)))
        down = np.flatnonzero(np.abs(self.y[0, :, 0] - y) <= reach)
        columns = slice(int(across[0]), int(across[-1]) + 1) if across.size else slice(0, 0)
        rows = slice(int(down[0]), int(down[-1]) + 1) if down.size else slice(0, 0)
        part.x, part.y = self.x[..., columns], self.y[:, rows]
        part._paint, part._region = self._paint[:, rows, :, columns], self._region[:, rows, columns]
        return part

    def fill(
        self, distance: Array, colour: Array, *, region: int = OTHER, soft: float = 1.0, opacity: Array | float = 1.0
    ) -> None:
        """Paint a shape.

        Args:
            distance: Signed distance to the shape, broadcastable to [phases, rows, columns].
            colour: [3], or [phases, rows, 3, columns] where it varies (see ``ramp``).
            region: What a pixel shows that the shape covers fully.
            soft: Width of its edge in pixels.
            opacity: From 0 to 1, a number or [1, rows, 1].
        """
        distance = np.broadcast_to(distance, self._region.shape)
        used = np.flatnonzero((distance < 0.5 * soft).any((0, 1)))
        if not used.size:
            return
        part = slice(int(used[0]), int(used[-1]) + 1)
        cover = coverage(distance[..., part] / np.float32(soft)) * np.asarray(opacity, dtype=np.float32)
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
        return Layer(top=self.top, rates=self.rates, paint=self._paint, region=self._region)


def stack(layers: tuple[Layer, ...], camera: Array) -> Array:
    """The layers over each other as the camera [t] sees them: [t, SIZE, 3, SIZE] RGB in [0, 1].

    Layers are given from the farthest to the nearest.
    """
    picture = np.zeros((len(camera), SIZE, 3, SIZE), dtype=np.float32)
    for layer in layers:
        seen = layer.view(camera)
        band = picture[:, layer.rows]
        band *= 1.0 - seen[:, :, 3:]
        band += seen[:, :, :3]
    return picture


def stack_regions(layers: tuple[Layer, ...], camera: Array) -> NDArray[np.uint8]:
    """What each pixel shows as the camera [t] sees it: [t, SIZE, SIZE] of SKY, GROUND, LANDMARK and OTHER."""
    region = np.full((len(camera), SIZE, SIZE), OTHER, dtype=np.uint8)
    for layer in layers:
        cover = layer.view(camera)[:, :, 3]
        band = region[:, layer.rows]
        band[cover > 0.02] = OTHER
        full = cover >= 1.0
        band[full] = layer.view_region(camera)[full]
    return region
