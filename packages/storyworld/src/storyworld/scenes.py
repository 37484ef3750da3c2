"""The places of a video at richness 2: palette, layers and companion, drawn at random for each video."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from storyworld.elements import SCREEN
from storyworld.landmarks import put_landmarks, put_open_land, put_spot
from storyworld.layers import SIZE, Layer, stack, stack_regions
from storyworld.motion import BASELINE
from storyworld.paint import Array
from storyworld.palettes import Palette, draw_palette
from storyworld.scenery import Scenery
from storyworld.shaded_characters import Look, draw_look
from storyworld.takes import SPACING

COMPANION_SCALE = 0.7
"""Size of a companion; the protagonist's is 1. The companion stands farther away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inhabitant:
    """The companion that may be met at a place: the same one, at the same spot, on every visit."""

    look: Look
    x: float
    """Column of its feet when the camera is at 0."""
    y: float
    """Row of its feet."""
    rate: float
    """How far it shifts when the camera moves by a pixel."""
    facing: float
    """1 looks right, -1 left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One place as this video shows it."""

    name: str
    palette: Palette
    layers: tuple[Layer, ...]
    """From the farthest to the nearest."""
    companion_foot: float
    """Row of the feet of a companion, in units."""
    inhabitant: Inhabitant | None = None
    """The companion that may be met here, in a story."""
    middle: float = 0.0
    """The camera's position in the middle of the place, in units."""

    @property
    def size(self) -> int:
        """Height and width of the picture in pixels."""
        return self.layers[0].size

    def background(self, camera: Array) -> Float[np.ndarray, "t h 3 w"]:
        """The place without characters as the camera [t] sees it at noon, RGB in [0, 1]."""
        return stack(self.layers, camera)

    def regions(self, camera: Array) -> UInt8[np.ndarray, "t h w"]:
        """The region that each pixel of ``background`` shows."""
        return stack_regions(self.layers, camera)


def draw_scene(
    name: str,
    rng: np.random.Generator,
    *,
    protagonist: Look,
    companion: str | None,
    others: list[Palette],
    sun: int,
    size: int = SIZE,
) -> Scene:
    """Draw a place before which the protagonist stands out and that differs from the other places.

    Args:
        name: One of ``PLACES``.
        rng: Source of all draws.
        protagonist: The character whose colours are kept free.
        companion: Species of the companion that may be met here; None: nobody stands here.
        others: Palettes of the places drawn before.
        sun: Side from which the light comes: 1 right, -1 left.
        size: Height and width of the picture in pixels.
    """
    body = protagonist.colours[0]
    palette = draw_palette(rng, avoid=body, others=others, mirror=name == "beach")
    scenery = Scenery(palette, rng, horizon=float(rng.uniform(28.0, 36.0)), sun=sun, name=name, size=size)
    scenery.paint_sky(clear=bool(rng.random() < 0.6))
    put_landmarks(scenery)
    foot = _companion_foot(scenery)
    inhabitant = None
    if companion:
        look = draw_companion(companion, rng, protagonist=protagonist, palettes=[palette])
        side = rng.choice([-1.0, 1.0])
        inhabitant = Inhabitant(
            look=look,
            x=float(32.0 + side * rng.uniform(16.0, 20.0)),
            y=foot,
            rate=float(scenery.rate(foot)),
            facing=-float(side),
        )
    return Scene(name=name, palette=palette, layers=scenery.layers(), companion_foot=foot, inhabitant=inhabitant)


def draw_wide_place(
    setting: str,
    spots: tuple[str, ...],
    rng: np.random.Generator,
    *,
    protagonist: Look,
    sun: int,
    size: int = SIZE,
) -> tuple[Scene, ...]:
    """Draw a wide place with a landmark at each of its spots; the landmarks have colours of their own.

    Args:
        setting: One of ``SETTINGS``.
        spots: The landmarks from left to right, each one of ``SPOTS``.
        rng: Source of all draws.
        protagonist: The character whose colours are kept free.
        sun: Side from which the light comes: 1 right, -1 left.
        size: Height and width of the picture in pixels.

    Returns:
        A scene for each spot. All of them share their layers.
    """
    body = protagonist.colours[0]
    palette = draw_palette(rng, avoid=body, others=[], mirror=setting == "beach")
    way = SPACING * (len(spots) - 1)
    scenery = Scenery(palette, rng, horizon=float(rng.uniform(28.0, 36.0)), sun=sun, name=setting, size=size, way=way)
    scenery.paint_sky(clear=bool(rng.random() < 0.6))
    put_open_land(scenery)
    palettes = []
    for k, spot in enumerate(spots):
        colours = draw_palette(rng, avoid=body, others=[])
        scenery.palette = replace(palette, main=colours.main, detail=colours.detail)
        scenery.here = SPACING * k
        put_spot(scenery, spot, SCREEN / 2 + float(scenery.rate(scenery.foot)) * SPACING * k)
        palettes.append(scenery.palette)
    layers, foot = scenery.layers(), _companion_foot(scenery)
    return tuple(
        Scene(name=spot, palette=colours, layers=layers, companion_foot=foot, middle=SPACING * k)
        for k, (spot, colours) in enumerate(zip(spots, palettes, strict=True))
    )


def draw_companion(species: str, rng: np.random.Generator, *, protagonist: Look, palettes: list[Palette]) -> Look:
    """Draw the look of a companion that differs from the protagonist and from the places."""
    taken = np.concatenate([protagonist.colours[:1], *(palette.colours for palette in palettes)])
    return draw_look(species, rng, taken=taken, distance=0.3)


def _companion_foot(scenery: Scenery) -> float:
    return scenery.horizon + COMPANION_SCALE * (BASELINE - scenery.horizon)
