"""The places of a film with a panning camera: palette, layers and inhabitant, drawn per film."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from storyworld.shaded_characters import Look, draw_look
from storyworld.landmarks import put_landmarks
from storyworld.layers import Layer, stack, stack_regions
from storyworld.motion import BASELINE
from storyworld.paint import Array
from storyworld.palettes import Palette, draw_palette
from storyworld.scenery import Scenery

COMPANION_SCALE = 0.7
"""Size of an inhabitant, which stands as far behind the protagonist as makes it so much smaller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inhabitant:
    """Who may be met at a place, always the same."""

    look: Look
    x: float
    """Column of its feet when the camera is at 0."""
    y: float
    """Row of its feet."""
    rate: float
    """How far it shifts for a pixel of camera."""
    facing: float
    """1 looks right, -1 left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One place as this film shows it."""

    name: str
    palette: Palette
    layers: tuple[Layer, ...]
    """Its scenery, the farthest first."""
    inhabitant: Inhabitant

    def background(self, camera: Array) -> Float[np.ndarray, "t h 3 w"]:
        """The place without visitors as the camera [t] sees it at noon, RGB in [0, 1]."""
        return stack(self.layers, camera)

    def regions(self, camera: Array) -> UInt8[np.ndarray, "t h w"]:
        """What each pixel shows as the camera [t] sees it."""
        return stack_regions(self.layers, camera)


def draw_scene(
    name: str, rng: np.random.Generator, *, protagonist: Look, companion: str, others: list[Palette], sun: int
) -> Scene:
    """Draw a place that keeps away from the protagonist's colours and from the film's other palettes.

    Args:
        name: One of ``PLACES``.
        rng: Where all draws come from.
        protagonist: Who must be seen before it.
        companion: Species of its inhabitant.
        others: Palettes of the places drawn before.
        sun: The side that light comes from: 1 right, -1 left.
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
