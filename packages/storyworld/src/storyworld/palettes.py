"""The palette of a place: soft colours that go together.

Colours are drawn in OKLCH, a colour space in which equal steps look equal.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from storyworld.paint import Array

_SUNLIGHT = np.array([1.0, 0.95, 0.84], dtype=np.float32)
_DUSK = np.array([0.36, 0.36, 0.52], dtype=np.float32)  # shade is bluish, not black
_DRAWS = 64
_CLEAR, _CLEAR_GROUND = 0.27, 0.42  # distance of the protagonist's body from all colours and from the ground, in RGB
_NEW = 0.22  # distance of sky and ground of one place from those of another


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """The colours of one place, each [3] RGB in [0, 1]."""

    sky: Array
    """Top of the picture."""
    haze: Array
    """Air above the horizon."""
    hill: Array
    """Far hills, paled by the air before them."""
    ground: Array
    """Ground at the bottom of the picture."""
    meadow: Array
    """Ground at the horizon."""
    main: Array
    """Main colour of the landmark."""
    detail: Array
    """Details of the landmark: roofs, flowers, sails."""
    cloud: Array
    glow: Array
    """Sun and windows."""

    @property
    def colours(self) -> Array:
        """[n, 3] all colours that the place may show: these, their lit and shaded tones, and mixtures of them."""
        solid = [tone for colour in (self.hill, self.ground, self.main, self.detail) for tone in tones(colour)]
        mixed = [mix(self.sky, self.haze, 0.5), mix(self.ground, self.meadow, 0.5), mix(self.hill, self.haze, 0.5)]
        return np.stack([*(getattr(self, field.name) for field in fields(self)), *solid, *mixed])


def mix(one: Array, other: Array, share: float) -> Array:
    """Mix two colours: ``share`` 0 gives ``one``, 1 gives ``other``."""
    return one + np.float32(share) * (other - one)


def tones(colour: Array) -> tuple[Array, Array]:
    """The colour in the shade and the colour in the sun."""
    return mix(colour, _DUSK, 0.34), mix(colour, _SUNLIGHT, 0.3)


def water(palette: Palette) -> Array:
    """The colour of water: the sky's, somewhat darker."""
    return mix(palette.sky, tones(palette.sky)[0], 0.6)


def oklch(lightness: float, chroma: float, hue: float) -> Array:
    """RGB in [0, 1] of a colour given by lightness (0 to 1), chroma (0 grey, 0.2 vivid) and hue in radians."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.array([
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    ])  # fmt: skip
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgb: Array = encoded.astype(np.float32)
    return rgb


def draw_vivid(rng: np.random.Generator, taken: Array, *, distance: float) -> Array:
    """Draw a vivid colour for a character that keeps away from other colours.

    Args:
        rng: Source of the draws.
        taken: [n, 3] colours to keep away from.
        distance: Euclidean distance in RGB that is enough. Of 64 draws the first that keeps it is taken, or else the
            one that is farthest away.
    """
    draws = np.stack([_vivid(rng) for _ in range(_DRAWS)])
    gaps = np.linalg.norm(draws[:, None] - taken, axis=-1).min(1)
    drawn: Array = draws[int(np.argmax(np.minimum(gaps, distance)))]
    return drawn


def _vivid(rng: np.random.Generator) -> Array:
    hue = rng.uniform(0.0, 2.0 * np.pi)
    yellow = np.exp(-(((hue - 1.75) / 0.6) ** 2))  # a dark yellow would look brown
    return oklch(rng.uniform(0.6, 0.74) + 0.12 * yellow, rng.uniform(0.13, 0.18), hue)


def draw_palette(rng: np.random.Generator, *, avoid: Array, others: list[Palette], mirror: bool = False) -> Palette:
    """Draw a palette before which the protagonist stands out and that differs from those of the other places.

    Palettes too close to those of other places are left out of 64 draws. Of the rest, the first before which the
    protagonist stands out enough is taken, or else the best one.

    Args:
        rng: Source of the draws.
        avoid: [3] colour of the protagonist's body.
        others: Palettes of the story's other places.
        mirror: The landmark is water and gets a colour like the sky's.
    """
    draws = [_draw(rng) for _ in range(_DRAWS)]
    if mirror:
        draws = [replace(draw, main=water(draw)) for draw in draws]
    apart = [_unlike(draw, others) for draw in draws]
    draws = [draw for draw, new in zip(draws, apart, strict=True) if new] or draws
    clear = np.array([_clearness(draw, avoid) for draw in draws])
    return draws[int(np.argmax(np.minimum(clear, 1.0)))]


def _clearness(palette: Palette, body: Array) -> float:
    """How well the body's colour stands out before a palette; 1 is enough."""
    everywhere = np.linalg.norm(palette.colours - body, axis=-1).min() / _CLEAR
    walked_on = np.linalg.norm(np.stack([palette.ground, palette.meadow]) - body, axis=-1).min() / _CLEAR_GROUND
    return float(min(everywhere, walked_on))


def _draw(rng: np.random.Generator) -> Palette:
    turn = 2.0 * np.pi
    hue = rng.uniform(0.0, turn)
    sky = oklch(rng.uniform(0.78, 0.88), rng.uniform(0.05, 0.09), hue)
    haze = mix(sky, oklch(0.95, 0.035, rng.uniform(0.6, 1.7)), 0.65)  # cream to rose
    soil = hue + rng.uniform(1.2, turn - 1.2)
    ground = oklch(rng.uniform(0.64, 0.76), rng.uniform(0.06, 0.1), soil)
    shape = soil + rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.8)
    main = oklch(rng.uniform(0.52, 0.68), rng.uniform(0.06, 0.11), shape)
    detail = oklch(rng.uniform(0.66, 0.8), rng.uniform(0.08, 0.13), shape + rng.uniform(1.6, 4.0))
    return Palette(
        sky=sky,
        haze=haze,
        hill=mix(mix(ground, main, rng.uniform(0.2, 0.8)), mix(sky, haze, 0.4), 0.5),
        ground=ground,
        meadow=mix(ground, haze, 0.38),
        main=main,
        detail=detail,
        cloud=mix(haze, np.ones(3, dtype=np.float32), 0.65),
        glow=np.array([1.0, 0.93, 0.7], dtype=np.float32),
    )


def _unlike(palette: Palette, others: list[Palette]) -> bool:
    """Whether sky and ground, taken together, are far from those of every other palette."""
    look = np.concatenate([palette.sky, palette.ground])
    return all(np.linalg.norm(look - np.concatenate([other.sky, other.ground])) > _NEW for other in others)
