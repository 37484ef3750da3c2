"""The plan of a story: who travels where, chunk by chunk, and the words that say so.

Everything is a pure function of (seed, chunk): the first chunks of a long story are the shorter story.
"""

from dataclasses import dataclass, replace

import numpy as np

SPECIES = ("fox", "rabbit", "bear", "duck", "snail", "robot")
PLACES = ("meadow", "beach", "forest", "desert", "village", "mountains", "castle", "harbor")
ACTIONS = ("walk", "stand", "jump")
LEFTMOST, RIGHTMOST = 12.0, 52.0
"""Where the protagonist's middle may stand, in pixels of a 64-pixel-wide picture."""

_DIRECTION_WORDS = {1: ("right", "to the right"), -1: ("left", "to the left")}
_WALKS = ("walks", "strolls", "wanders", "trots")
_STANDS = ("stands still", "waits", "rests", "looks around")
_JUMPS = ("jumps", "hops up and down", "jumps up and down")
_MEETINGS = (", a {} waits there", ", a {} rests there", " while a {} looks on", " while a {} waits there")
_COMPANY = 0.45  # share of the stays on which somebody is met


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkPlan:
    """What happens in one chunk."""

    place: int
    """Index into the story's places."""
    action: str
    """One of ACTIONS."""
    direction: int
    """1 right, -1 left, 0 for actions on the spot."""
    arrives: bool
    """The chunk shows another place than the one before it."""
    start: float
    """Horizontal position of the protagonist before the first frame, in pixels."""
    end: float
    """Horizontal position at the last frame."""
    caption: str
    """What the chunk shows, without a word about colours."""
    companion: str | None = None
    """Species of who is met."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryPlan:
    """A protagonist, the places of its world and what happens in each chunk."""

    species: str
    places: tuple[str, ...]
    chunks: tuple[ChunkPlan, ...]
    inhabitants: tuple[str, ...] = ()
    """Species of who may be met at each place, no two alike; empty in a story without companions."""

    @property
    def beats(self) -> tuple[ChunkPlan, ...]:
        """Old name of ``chunks``."""
        return self.chunks


def plan_story(seed: int, num_chunks: int, *, companions: bool = False) -> StoryPlan:
    """Draw a story of ``num_chunks`` chunks in which places are left and, after a while, visited again.

    Args:
        seed: Of the story.
        num_chunks: Its length.
        companions: On some stays the protagonist meets who lives at the place, and the captions say so.
    """
    rng = np.random.default_rng([seed, 0])
    species = SPECIES[rng.integers(len(SPECIES))]
    places = tuple(PLACES[i] for i in rng.permutation(len(PLACES))[: rng.integers(3, 6)])
    chunks: list[ChunkPlan] = []
    visited = [0]
    stay = int(rng.integers(1, 4))
    position = float(rng.uniform(16.0, 48.0))
    for chunk in range(num_chunks):
        rng = np.random.default_rng([seed, 1, chunk])
        place, arrives = visited[-1], False
        if chunk and stay == 0:
            place, arrives = _next_place(rng, visited, len(places)), True
            stay = int(rng.integers(1, 4))
        stay -= 1
        beat = _beat(rng, place=place, arrives=arrives, position=position, first=chunk == 0)
        caption = _caption(rng, beat, species=species, place=places[place], known=arrives and place in visited)
        chunks.append(replace(beat, caption=caption))
        position = beat.end
        visited.append(place)
    plan = StoryPlan(species=species, places=places, chunks=tuple(chunks))
    return _with_companions(plan, seed) if companions else plan


def _with_companions(plan: StoryPlan, seed: int) -> StoryPlan:
    """The same story with company on some stays, for the whole of a stay."""
    others = [species for species in SPECIES if species != plan.species]
    order = np.random.default_rng([seed, 4]).permutation(len(others))
    inhabitants = tuple(others[i] for i in order[: len(plan.places)])
    chunks, met = [], False
    for chunk, beat in enumerate(plan.chunks):
        rng = np.random.default_rng([seed, 5, chunk])
        fresh = bool(rng.random() < _COMPANY)
        met = fresh if beat.arrives or chunk == 0 else met
        clause = _MEETINGS[rng.integers(len(_MEETINGS))].format(inhabitants[beat.place])
        chunks.append(replace(beat, caption=beat.caption + clause, companion=inhabitants[beat.place]) if met else beat)
    return replace(plan, chunks=tuple(chunks), inhabitants=inhabitants)


def _next_place(rng: np.random.Generator, visited: list[int], num_places: int) -> int:
    """Prefer places not seen yet, else those left longest ago, so that returns come after long absences."""
    current = visited[-1]
    age = {p: next((i for i, v in enumerate(reversed(visited)) if v == p), 12) for p in range(num_places)}
    others = [p for p in range(num_places) if p != current]
    weights = np.array([float(age[p]) for p in others])
    return int(rng.choice(others, p=weights / weights.sum()))


def _beat(rng: np.random.Generator, *, place: int, arrives: bool, position: float, first: bool) -> ChunkPlan:
    middle = (LEFTMOST + RIGHTMOST) / 2
    if arrives:  # leaves over the nearer edge, enters over the opposite one, and walks on
        direction = 1 if position >= middle else -1
        entry = rng.uniform(LEFTMOST, LEFTMOST + 4.0)
        start = entry if direction == 1 else LEFTMOST + RIGHTMOST - entry
        end = start + direction * rng.uniform(16.0, 28.0)
        return ChunkPlan(
            place=place, action="walk", direction=direction, arrives=True, start=start, end=float(end), caption=""
        )
    action = ACTIONS[rng.choice(3, p=(0.7, 0.15, 0.15))]
    if action != "walk" and not first:
        return ChunkPlan(place=place, action=action, direction=0, arrives=False, start=position, end=position, caption="")
    room = {1: RIGHTMOST - position, -1: position - LEFTMOST}
    possible = [d for d in (1, -1) if room[d] >= 16.0]
    direction = int(rng.choice(possible))
    distance = rng.uniform(16.0, min(28.0, room[direction]))
    end = position + direction * distance
    return ChunkPlan(
        place=place, action="walk", direction=direction, arrives=False, start=position, end=float(end), caption=""
    )


def _caption(rng: np.random.Generator, beat: ChunkPlan, *, species: str, place: str, known: bool) -> str:
    def pick(words: tuple[str, ...]) -> str:
        return words[rng.integers(len(words))]

    if beat.arrives:
        verb, way = pick(_WALKS), pick(_DIRECTION_WORDS[beat.direction])
        arrival = pick((f"back to the {place}", f"and returns to the {place}")) if known else None
        arrival = arrival or pick((f"to the {place}", f"and arrives at the {place}"))
        return f"the {species} {verb} {way} {arrival}"
    if beat.action == "walk":
        verb, way = pick(_WALKS), pick(_DIRECTION_WORDS[beat.direction])
        through = pick(("through", "across", "in"))
        return pick(
            (f"the {species} {verb} {way} {through} the {place}", f"in the {place}, the {species} {verb} {way}")
        )
    verb = pick(_STANDS if beat.action == "stand" else _JUMPS)
    return pick((f"the {species} {verb} in the {place}", f"in the {place}, the {species} {verb}"))
