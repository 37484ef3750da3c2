"""The places of a video with a panning camera: palette, layers and companion, drawn at random for each video."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from storyworld.landmarks import put_landmarks
from storyworld.layers import Layer, stack, stack_regions
from storyworld.motion import BASELINE
from storyworld.paint import Array
from storyworld.palettes import Palette, draw_palette
from storyworld.scenery import Scenery
from storyworld.shaded_characters import Look, draw_look

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
    inhabitant: Inhabitant

    def background(self, camera: Array) -> Float[np.ndarray, "t h 3 w"]:
        """The place without characters as the camera [t] sees it at noon, RGB in [0, 1]."""
        return stack(self.layers, camera)

    def regions(self, camera: Array) -> UInt8[np.ndarray, "t h w"]:
        """The region that each pixel of ``background`` shows."""
        return stack_regions(self.layers, camera)


def draw_scene(
    name: str, rng: np.random.Generator, *, protagonist: Look, companion: str, others: list[Palette], sun: int
) -> Scene:
    """Draw a place before which the protagonist stands out and that differs from the other places.

    Args:
        name: One of ``PLACES``.
        rng: Source of all draws.
        protagonist: The character whose colours are kept free.
        companion: Species of the companion that may be met here.
        others: Palettes of the places drawn before.
        sun: Side from which the light comes: 1 right, -1 left.
    """
    body = protagonist.colours[:1]
    palette = draw_palette(rng, avoid=body[0], others=others, mirror=name == "beach")
    horizon = float(rng.uniform(28.0, 36.0))
    scenery = Scenery(palette, rng, horizon=horizon, sun=sun, name=name)
    scenery.paint_sky(clear=bool(rng.random() < 0.6))
    put_landmarks(scenery)
    look = draw_look(companion, rng, taken=np.concatenate([body, palette.colours]), distance=0.3)
    side = rng.choice([-1.0, 1.0])
    foot = horizon + COMPANION_SCALE * (BASELINE - horizon)
    return Scene(
        name=name,
        palette=palette,
        layers=scenery.layers(),
        inhabitant=Inhabitant(
            look=look,
            x=float(32.0 + side * rng.uniform(16.0, 20.0)),
            y=foot,
            rate=float(scenery.rate(foot)),
            facing=-float(side),
        ),
    )
