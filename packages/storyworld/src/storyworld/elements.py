"""What there is in the world, and the plan of a video: who goes where in each chunk, and the captions."""

from dataclasses import dataclass

import numpy as np

TAKES = ("story", "place", "walk")
"""Kinds of video: a story with cuts between places, and two kinds without cuts."""

SPECIES = ("fox", "rabbit", "bear", "duck", "snail", "robot")
"""Species of the characters."""

PLACES = ("meadow", "beach", "forest", "desert", "village", "mountains", "castle", "harbor")
"""Kinds of place. A story has three to five of them, none twice."""

SETTINGS = ("meadow", "beach", "forest", "desert", "mountains")
"""Kinds of wide place, through which a walk goes."""

SPOTS = ("tree", "house", "tower", "cactus", "pyramid", "parasol", "firs", "mountain", "lighthouse")
"""Landmarks of a wide place. A walk passes three or four of them, none twice."""

ACTIONS = ("walk", "stand", "jump", "pace")
"""What the protagonist may do in a chunk. It paces, a few steps to and fro, only in a take of one place."""

LEFTMOST, RIGHTMOST = 12.0, 52.0
"""Columns between which the protagonist's middle stays, in units (pixels of a picture 64 pixels wide)."""

SCREEN = 64.0
"""Width of the picture in units."""

DIRECTION_WORDS = {1: ("right", "to the right"), -1: ("left", "to the left")}
ACTION_WORDS = {
    "walk": ("walks", "strolls", "wanders", "trots"),
    "stand": ("stands still", "waits", "rests", "looks around"),
    "jump": ("jumps", "hops up and down", "jumps up and down"),
    "pace": ("paces to and fro", "walks to and fro", "goes back and forth"),
}
THROUGH_WORDS = ("through", "across", "in")
PAST_WORDS = ("past", "by", "along")
MEETING_WORDS = (", a {} waits there", ", a {} rests there", " while a {} looks on", " while a {} waits there")
PASSING_WORDS = (", a {} passes by {}", " while a {} passes by {}", " while a {} walks by {}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkPlan:
    """What happens in one chunk. Columns are in units of 1/64 of the picture's width."""

    place: int
    """Index into the video's places."""
    action: str
    """One of ``ACTIONS``."""
    direction: int
    """1 right, -1 left, 0 for an action on the spot."""
    arrives: bool
    """Whether the chunk shows another place than the one before it."""
    start: float
    """Column of the protagonist before the first frame: in the picture, or in a walk, of the world."""
    end: float
    """Column of the protagonist in the last frame."""
    caption: str
    """What the chunk shows. Colours are not named."""
    companion: str | None = None
    """Species of the companion, or None if nobody is met."""
    crossing: tuple[float, float] | None = None
    """Columns of a companion that passes by, before the first frame and in the last one; None if it stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryPlan:
    """The protagonist, the places and what happens in each chunk."""

    species: str
    """Species of the protagonist."""
    places: tuple[str, ...]
    """Names of the places, each one of ``PLACES``; of a walk, of the spots that it passes, each one of ``SPOTS``."""
    chunks: tuple[ChunkPlan, ...]
    inhabitants: tuple[str, ...] = ()
    """Species of the companion that may be met at each place, all different; in a take of one place, of those that
    pass by; empty in a video without companions."""
    take: str = "story"
    """One of ``TAKES``."""
    setting: str = ""
    """Kind of the wide place of a walk, one of ``SETTINGS``; else empty."""
    width: float = SCREEN
    """Columns of the world, in units."""


def pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    """Draw one of some words."""
    return words[rng.integers(len(words))]


def check_plan(seed: int, num_chunks: int) -> None:
    """Refuse a seed or a number of chunks that no video has."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a non-negative integer")
    if num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; a story has at least 1 chunk")
