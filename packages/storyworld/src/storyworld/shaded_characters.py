"""Characters at richness 2: with a pattern, lit from above, and with a soft shadow on the ground."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from storyworld.characters import ACCENT, BODY, INK, SHAPES, feet, inside, patch_size
from storyworld.paint import Array, coverage, ellipse
from storyworld.palettes import draw_vivid, mix, oklch, tones

PATTERNS = ("stripes", "spots", "patch")
"""Patterns that a character may have."""

_TORSO = {
    "fox": (BODY, (-0.5, 9.0), (7.4, 4.6)),
    "rabbit": (BODY, (-1.0, 8.4), (6.4, 5.4)),
    "bear": (BODY, (-1.4, 11.0), (8.2, 6.8)),
    "duck": (BODY, (-1.4, 8.4), (7.8, 5.0)),
    "snail": (ACCENT, (-2.0, 9.8), (7.4, 7.4)),
    "robot": (BODY, (0.0, 9.6), (6.0, 5.6)),
}  # the part with the pattern: colour, centre and half axes in the character's own coordinates
_SPOTS = (
    (-0.74, 0.22),
    (-0.4, 0.66),
    (0.08, 0.78),
    (0.52, 0.6),
    (-0.76, -0.34),
)  # centres along the back, in half axes of the part
_HEIGHT = 22.0  # of a character, in units
_SHADOW = 9.0, 2.4  # half axes of the shadow under a character, in units
_DARKEST = 0.42  # share of the light that the shadow takes in its middle
_CREASE = np.float32(0.24)  # share of the light that a part takes from the parts behind it


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """The colours and the pattern of a character in one video."""

    species: str
    colours: Array
    """[3, 3] RGB in [0, 1] of body, accent and ink."""
    pattern: str
    """One of ``PATTERNS``."""
    marking: Array
    """[3] RGB of the pattern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Where a character is and how it stands, for every frame."""

    x: Array
    """[t] column of its feet in the picture, in units."""
    y: Array
    """[t] row of its feet, in units."""
    facing: Array
    """[t] 1 looks right, -1 left."""
    gait: Array
    """[t] phase of its walk in radians."""
    tall: Array
    """[t] factor of its height, 1 except while it breathes."""


def draw_look(species: str, rng: np.random.Generator, *, taken: Array, distance: float) -> Look:
    """Draw the look of a character.

    Args:
        species: One of ``SPECIES``.
        rng: Source of the draws.
        taken: [n, 3] colours from which the body keeps away.
        distance: Euclidean distance in RGB from those colours that is enough. If no draw keeps it, the one that is
            farthest away is taken.
    """
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


def paint_character(
    look: Look, pose: Pose, *, sun: int, scale: float = 1.0, resolution: float = 1.0
) -> Float[np.ndarray, "t rows 4 columns"]:
    """Paint a character in a square around it, for every frame.

    Args:
        look: Colours and pattern of the character.
        pose: Where it is and how it stands.
        sun: Side from which the light comes: 1 right, -1 left.
        scale: Size; the protagonist's is 1.
        resolution: Pixels in a unit.

    Returns:
        Premultiplied RGB in [0, 1], and coverage. The feet are in the square's middle column and in its row
        ``feet(scale * resolution)``.
    """
    pixels = np.float32(scale * resolution)
    side = patch_size(scale * resolution)
    grid = np.arange(side, dtype=np.float32) + np.float32(0.5)
    x, y = pose.x * np.float32(resolution), pose.y * np.float32(resolution)
    beside, below = (x - np.floor(x))[:, None, None], (y - np.floor(y))[:, None, None]
    right = (grid[None, None, :] - side / 2 - beside) / pixels
    v = (feet(scale * resolution) - grid[None, :, None] + below) / (pixels * pose.tall[:, None, None])
    u = right * pose.facing[:, None, None]
    u, v = u.astype(np.float32), v.astype(np.float32)
    paints = {which: look.colours[which][:, None] for which in (BODY, ACCENT, INK)}
    patterned = _TORSO[look.species][0]
    marked = _pattern(look, u, v, sharpness=resolution)[:, :, None]
    paints[patterned] = paints[patterned] + marked * (look.marking[:, None] - paints[patterned])
    patch = np.zeros((len(pose.x), side, 4, side), dtype=np.float32)
    rgb, alpha = patch[:, :, :3], patch[:, :, 3]
    for distance, which in SHAPES[look.species](u, v, pose.gait[:, None, None]):
        shade = coverage(0.4 * (distance * np.float32(scale)) - 0.3)
        rgb *= 1.0 - _CREASE * shade[:, :, None]  # a part shades what is behind it
        cover = coverage(distance * pixels)
        rgb += cover[:, :, None] * (paints[which] - rgb)
        alpha += cover * (1.0 - alpha)
    rgb *= (0.9 + 0.14 * np.clip(v / _HEIGHT, 0.0, 1.0) + 0.06 * sun * np.clip(right / 10.0, -1.0, 1.0))[:, :, None]
    np.minimum(rgb, alpha[:, :, None], out=rgb)
    return patch


def paste(
    picture: Array, patch: Array, pose: Pose, *, scale: float = 1.0, resolution: float = 1.0
) -> Float[np.ndarray, "t h w"]:
    """Paste a character over a picture [t, h, 3, w], in place; what lies outside the picture is cut off.

    Args:
        picture: The picture to change.
        patch: The painted character, from ``paint_character``.
        pose: Where it is.
        scale: Size of the character.
        resolution: Pixels in a unit.

    Returns:
        How much of each pixel it covers.
    """
    height, width = picture.shape[1], picture.shape[3]
    side = patch.shape[1]
    left = np.floor(pose.x * np.float32(resolution)).astype(int) - side // 2
    top = np.floor(pose.y * np.float32(resolution)).astype(int) - int(feet(scale * resolution))
    covered = np.zeros((len(patch), height, width), dtype=np.float32)
    for t, (row, column) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
        rows, columns = inside(row, side, height), inside(column, side, width)
        seen = patch[t, rows.start - row : rows.stop - row, :, columns.start - column : columns.stop - column]
        under = picture[t, rows, :, columns]
        under *= 1.0 - seen[:, 3:]
        under += seen[:, :3]
        covered[t, rows, columns] = seen[:, 3]
    return covered


def paste_shadow(
    picture: Array, *, x: Array, row: float, lift: Array, sun: int, scale: float = 1.0, resolution: float = 1.0
) -> None:
    """Darken the ground under a character in a picture [t, h, 3, w], in place.

    The shadow has soft edges. It is weaker when the character is in the air.

    Args:
        picture: The picture to change.
        x: [t] column of the character's feet, in units.
        row: Row of the ground on which it stands, in units.
        lift: [t] how far above the ground it is, in units.
        sun: Side from which the light comes: 1 right, -1 left.
        scale: Size of the character.
        resolution: Pixels in a unit.
    """
    wide, high = _SHADOW[0] * scale, _SHADOW[1] * scale
    top = int((row - high - 1.0) * resolution)
    bottom = min(int((row + high + 2.0) * resolution), picture.shape[1])
    columns = (np.arange(picture.shape[3], dtype=np.float32)[None, None] + 0.5) / np.float32(resolution)
    rows = (np.arange(top, bottom, dtype=np.float32)[None, :, None] + 0.5) / np.float32(resolution)
    near = (1.0 / (1.0 + 0.1 * lift))[:, None, None].astype(np.float32)
    u = (columns - x[:, None, None] + sun * (1.5 + 0.25 * lift)[:, None, None]) / (wide * (0.6 + 0.4 * near))
    v = (rows - row) / high
    depth = near * np.clip(1.3 * (1.0 - u * u - v * v), 0.0, 1.0)
    colour = np.array([1.0, 0.96, 0.8], dtype=np.float32)[:, None] * _DARKEST  # a shadow takes less of the blue
    picture[:, top:bottom] *= 1.0 - depth[:, :, None].astype(np.float32) * colour


def _pattern(look: Look, u: Array, v: Array, *, sharpness: float) -> Array:
    """How much of each pixel the pattern covers, from the character's own coordinates.

    Edges are ``1 / sharpness`` wide in these coordinates.
    """
    edge = np.float32(sharpness)
    _, centre, radii = _TORSO[look.species]
    across, up = (u - centre[0]) / radii[0], (v - centre[1]) / radii[1]
    inside = coverage(ellipse(u, v, centre=centre, radii=radii) * edge)
    if look.pattern == "stripes":
        marked: Array = np.clip(0.35 + 1.6 * np.cos(7.0 * across + 1.2 * up), 0.0, 1.0)
    elif look.pattern == "spots":
        marked = coverage(
            np.minimum.reduce([
                ellipse(u, v, centre=(centre[0] + a * radii[0], centre[1] + b * radii[1]), radii=(1.25, 1.25))
                for a, b in _SPOTS
            ])
            * edge
        )  # fmt: skip
    else:
        middle = (centre[0] - 0.35 * radii[0], centre[1] + 0.4 * radii[1])
        marked = coverage(ellipse(u, v, centre=middle, radii=(0.55 * radii[0], 0.62 * radii[1])) * edge)
    return inside * marked
