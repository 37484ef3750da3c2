"""The actors of a film with shadows: patterned, lit from above, standing on the ground by a soft shadow."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from storyworld.characters import ACCENT, BODY, FEET, INK, PATCH, SHAPES
from storyworld.paint import Array, coverage, ellipse
from storyworld.palettes import draw_vivid, mix, oklch, tones

PATTERNS = ("stripes", "spots", "patch")

_TORSO = {
    "fox": (BODY, (-0.5, 9.0), (7.4, 4.6)),
    "rabbit": (BODY, (-1.0, 8.4), (6.4, 5.4)),
    "bear": (BODY, (-1.4, 11.0), (8.2, 6.8)),
    "duck": (BODY, (-1.4, 8.4), (7.8, 5.0)),
    "snail": (ACCENT, (-2.0, 9.8), (7.4, 7.4)),
    "robot": (BODY, (0.0, 9.6), (6.0, 5.6)),
}  # what carries the pattern: colour, middle and half axes in the actor's own coordinates
_SPOTS = ((-0.74, 0.22), (-0.4, 0.66), (0.08, 0.78), (0.52, 0.6), (-0.76, -0.34))  # along the back, in half axes
_HEIGHT = 22.0  # of an actor
_SHADOW = 9.0, 2.4  # half axes of the shadow under an actor, in pixels
_DARKEST = 0.42
_CREASE = np.float32(0.24)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What an actor looks like in this film."""

    species: str
    colours: Array
    """[3, 3] RGB in [0, 1] of body, accent and ink."""
    pattern: str
    """One of ``PATTERNS``."""
    marking: Array
    """[3] RGB of the pattern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Where an actor is and how it stands, frame by frame."""

    x: Array
    """[t] column of its feet in the picture."""
    y: Array
    """[t] row of its feet."""
    facing: Array
    """[t] 1 looks right, -1 left."""
    gait: Array
    """[t] phase of its walk in radians."""
    tall: Array
    """[t] its height, usually 1."""


def draw_look(species: str, rng: np.random.Generator, *, taken: Array, distance: float) -> Look:
    """Draw an actor whose body keeps ``distance`` (Euclidean, RGB) from the colours taken [n, 3], if it can."""
    body = draw_vivid(rng, taken, distance=distance)
    accent = oklch(0.94, 0.03, rng.uniform(0.8, 2.0))
    pattern = str(rng.choice(PATTERNS))
    under = (body, accent)[_TORSO[species][0]]
    pale, dark = mix(body, accent, 0.62), mix(mix(under, tones(body)[0], 0.7), oklch(0.35, 0.05, 0.6), 0.3)
    marking = pale if rng.random() < 0.5 and under is body else dark
    return Look(
        species=species,
        colours=np.stack([body, accent, oklch(0.28, 0.03, 0.3)]),
        pattern=pattern,
        marking=marking,
    )


def paint_character(look: Look, pose: Pose, *, sun: int, scale: float = 1.0) -> Float[np.ndarray, "t rows 4 columns"]:
    """Paint an actor in a square around it, in every frame.

    Args:
        look: The actor.
        pose: How it stands.
        sun: The side that light comes from: 1 right, -1 left.
        scale: Size, 1 for the protagonist.

    Returns:
        Premultiplied RGB in [0, 1], and coverage. The whole pixels of the feet's place are in the square's middle
        column and its row ``feet(scale)``.
    """
    side = patch_size(scale)
    grid = np.arange(side, dtype=np.float32) + np.float32(0.5)
    beside, below = (pose.x - np.floor(pose.x))[:, None, None], (pose.y - np.floor(pose.y))[:, None, None]
    right = (grid[None, None, :] - side / 2 - beside) / np.float32(scale)
    v = (feet(scale) - grid[None, :, None] + below) / (np.float32(scale) * pose.tall[:, None, None])
    u = right * pose.facing[:, None, None]
    u, v = u.astype(np.float32), v.astype(np.float32)
    paints = {which: look.colours[which][:, None] for which in (BODY, ACCENT, INK)}
    patterned = _TORSO[look.species][0]
    marked = _pattern(look, u, v)[:, :, None]
    paints[patterned] = paints[patterned] + marked * (look.marking[:, None] - paints[patterned])
    patch = np.zeros((len(pose.x), side, 4, side), dtype=np.float32)
    rgb, alpha = patch[:, :, :3], patch[:, :, 3]
    for distance, which in SHAPES[look.species](u, v, pose.gait[:, None, None]):
        pixels = distance * np.float32(scale)
        rgb *= 1.0 - _CREASE * coverage(0.4 * pixels - 0.3)[:, :, None]  # a part in front shades what is behind it
        cover = coverage(pixels)
        rgb += cover[:, :, None] * (paints[which] - rgb)
        alpha += cover * (1.0 - alpha)
    rgb *= (0.9 + 0.14 * np.clip(v / _HEIGHT, 0.0, 1.0) + 0.06 * sun * np.clip(right / 10.0, -1.0, 1.0))[:, :, None]
    np.minimum(rgb, alpha[:, :, None], out=rgb)
    return patch


def patch_size(scale: float) -> int:
    """Side in pixels of the square that holds an actor of this size; even."""
    return 2 * int(np.ceil(PATCH * scale / 2))


def feet(scale: float) -> float:
    """Row of the feet in that square."""
    return float(np.rint(FEET * scale))


def paste(picture: Array, patch: Array, pose: Pose, *, scale: float = 1.0) -> Float[np.ndarray, "t h w"]:
    """Lay an actor over a picture [t, h, 3, w], in place.

    Returns:
        How much of each pixel it covers. What leaves the picture is cut off.
    """
    height, width = picture.shape[1], picture.shape[3]
    side = patch.shape[1]
    left = np.floor(pose.x).astype(int) - side // 2
    top = np.floor(pose.y).astype(int) - int(feet(scale))
    covered = np.zeros((len(patch), height, width), dtype=np.float32)
    for t, (row, column) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
        rows, columns = slice(max(row, 0), min(row + side, height)), slice(max(column, 0), min(column + side, width))
        seen = patch[t, rows.start - row : rows.stop - row, :, columns.start - column : columns.stop - column]
        under = picture[t, rows, :, columns]
        under *= 1.0 - seen[:, 3:]
        under += seen[:, :3]
        covered[t, rows, columns] = seen[:, 3]
    return covered


def paste_shadow(picture: Array, *, x: Array, row: float, lift: Array, sun: int, scale: float = 1.0) -> None:
    """Darken the ground under an actor in a picture [t, h, 3, w], in place: softly, and less when it is in the air.

    Args:
        picture: What to darken.
        x: [t] column of the actor's feet.
        row: Where it stands.
        lift: [t] how far above the ground it is, in pixels.
        sun: The side that light comes from: 1 right, -1 left.
        scale: Size of the actor.
    """
    wide, high = _SHADOW[0] * scale, _SHADOW[1] * scale
    top, bottom = int(row - high - 1.0), min(int(row + high + 2.0), picture.shape[1])
    columns = np.arange(picture.shape[3], dtype=np.float32)[None, None] + 0.5
    rows = np.arange(top, bottom, dtype=np.float32)[None, :, None] + 0.5
    near = (1.0 / (1.0 + 0.1 * lift))[:, None, None].astype(np.float32)
    u = (columns - x[:, None, None] + sun * (1.5 + 0.25 * lift)[:, None, None]) / (wide * (0.6 + 0.4 * near))
    v = (rows - row) / high
    depth = near * np.clip(1.3 * (1.0 - u * u - v * v), 0.0, 1.0)
    colour = np.array([1.0, 0.96, 0.8], dtype=np.float32)[:, None] * _DARKEST  # what is taken: least of the blue
    picture[:, top:bottom] *= 1.0 - depth[:, :, None].astype(np.float32) * colour


def _pattern(look: Look, u: Array, v: Array) -> Array:
    """How much of each pixel the marking covers, given the actor's own coordinates."""
    _, centre, radii = _TORSO[look.species]
    across, up = (u - centre[0]) / radii[0], (v - centre[1]) / radii[1]
    inside = coverage(ellipse(u, v, centre=centre, radii=radii))
    if look.pattern == "stripes":
        marked = np.clip(0.35 + 1.6 * np.cos(7.0 * across + 1.2 * up), 0.0, 1.0)
    elif look.pattern == "spots":
        marked = coverage(
            np.minimum.reduce([
                ellipse(u, v, centre=(centre[0] + a * radii[0], centre[1] + b * radii[1]), radii=(1.25, 1.25))
                for a, b in _SPOTS
            ])
        )  # fmt: skip
    else:
        middle = (centre[0] - 0.35 * radii[0], centre[1] + 0.4 * radii[1])
        marked = coverage(ellipse(u, v, centre=middle, radii=(0.55 * radii[0], 0.62 * radii[1])))
    return inside * marked
