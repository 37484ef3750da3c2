"""The plan of a story: who goes where in each chunk, and the captions.

Each chunk is a function of the seed, its index and the chunks before it. So a shorter story is the beginning of the
longer one.
"""

from dataclasses import dataclass, replace

import numpy as np

SPECIES = ("fox", "rabbit", "bear", "duck", "snail", "robot")
"""Species of the characters."""

PLACES = ("meadow", "beach", "forest", "desert", "village", "mountains", "castle", "harbor")
"""Kinds of place. A story has three to five of them, none twice."""

ACTIONS = ("walk", "stand", "jump")
"""What the protagonist may do in a chunk."""

LEFTMOST, RIGHTMOST = 12.0, 52.0
"""Columns between which the protagonist's middle stays, in pixels of a picture 64 pixels wide."""

_DIRECTION_WORDS = {1: ("right", "to the right"), -1: ("left", "to the left")}
_WALKS = ("walks", "strolls", "wanders", "trots")
_STANDS = ("stands still", "waits", "rests", "looks around")
_JUMPS = ("jumps", "hops up and down", "jumps up and down")
_MEETINGS = (", a {} waits there", ", a {} rests there", " while a {} looks on", " while a {} waits there")
_MEETING_SHARE = 0.45  # share of the stays on which the protagonist meets a companion
_SHORTEST_WALK, _LONGEST_WALK = 16.0, 28.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkPlan:
    """What happens in one chunk."""

    place: int
    """Index into the story's places."""
    action: str
    """One of ``ACTIONS``."""
    direction: int
    """1 right, -1 left, 0 for an action on the spot."""
    arrives: bool
    """Whether the chunk shows another place than the one before it."""
    start: float
    """Column of the protagonist before the first frame, in pixels."""
    end: float
    """Column of the protagonist in the last frame."""
    caption: str
    """What the chunk shows. Colours are not named."""
    companion: str | None = None
    """Species of the companion, or None if nobody is met."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryPlan:
    """The protagonist, the places and what happens in each chunk."""

    species: str
    """Species of the protagonist."""
    places: tuple[str, ...]
    """Names of the places, each one of ``PLACES``."""
    chunks: tuple[ChunkPlan, ...]
    inhabitants: tuple[str, ...] = ()
    """Species of the companion that may be met at each place, all different; empty in a story without companions."""


def plan_story(seed: int, num_chunks: int, *, companions: bool = False) -> StoryPlan:
    """Plan a story in which the protagonist leaves places and comes back to them later.

    Nothing is drawn: this is the quick way to the captions, places and actions that ``render`` shows.

    Args:
        seed: Any non-negative integer.
        num_chunks: Number of chunks, at least 1.
        companions: On some stays the protagonist meets a companion, and the captions say so. ``render`` does this at
            richness 2.

    Raises:
        ValueError: If the seed or the number of chunks is out of range.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a non-negative integer")
    if num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; a story has at least 1 chunk")
    rng = np.random.default_rng([seed, 0])
    species = SPECIES[rng.integers(len(SPECIES))]
    places = tuple(PLACES[i] for i in rng.permutation(len(PLACES))[: rng.integers(3, 6)])
    chunks: list[ChunkPlan] = []
    visited = [0]
    stay = int(rng.integers(1, 4))
    position = float(rng.uniform(16.0, 48.0))
    for index in range(num_chunks):
        rng = np.random.default_rng([seed, 1, index])
        place, arrives = visited[-1], False
        if index and stay == 0:
            place, arrives = _next_place(rng, visited, len(places)), True
            stay = int(rng.integers(1, 4))
        stay -= 1
        chunk = _plan_chunk(rng, place=place, arrives=arrives, position=position, first=index == 0)
        caption = _caption(rng, chunk, species=species, place=places[place], known=arrives and place in visited)
        chunks.append(replace(chunk, caption=caption))
        position = chunk.end
        visited.append(place)
    plan = StoryPlan(species=species, places=places, chunks=tuple(chunks))
    return _with_companions(plan, seed) if companions else plan


def _with_companions(plan: StoryPlan, seed: int) -> StoryPlan:
    """The same story with a companion on some stays, in every chunk of the stay."""
    others = [species for species in SPECIES if species != plan.species]
    order = np.random.default_rng([seed, 4]).permutation(len(others))
    inhabitants = tuple(others[i] for i in order[: len(plan.places)])
    chunks, met = [], False
    for index, chunk in enumerate(plan.chunks):
        rng = np.random.default_rng([seed, 5, index])
        drawn = bool(rng.random() < _MEETING_SHARE)
        met = drawn if chunk.arrives or index == 0 else met
        who = inhabitants[chunk.place]
        clause = _MEETINGS[rng.integers(len(_MEETINGS))].format(who)
        chunks.append(replace(chunk, caption=chunk.caption + clause, companion=who) if met else chunk)
    return replace(plan, chunks=tuple(chunks), inhabitants=inhabitants)


def _next_place(rng: np.random.Generator, visited: list[int], num_places: int) -> int:
    """Draw another place. The longer ago a place was visited, the likelier it is, so that returns are late."""
    current = visited[-1]
    age = {p: next((i for i, v in enumerate(reversed(visited)) if v == p), 12) for p in range(num_places)}
    others = [p for p in range(num_places) if p != current]
    weights = np.array([float(age[p]) for p in others])
    return int(rng.choice(others, p=weights / weights.sum()))


def _plan_chunk(rng: np.random.Generator, *, place: int, arrives: bool, position: float, first: bool) -> ChunkPlan:
    """One chunk without its caption."""
    if arrives:  # the protagonist has left over the nearer edge; it enters over the opposite one and walks on
        direction = 1 if position >= (LEFTMOST + RIGHTMOST) / 2 else -1
        entry = rng.uniform(LEFTMOST, LEFTMOST + 4.0)
        start = entry if direction == 1 else LEFTMOST + RIGHTMOST - entry
        end = start + direction * rng.uniform(_SHORTEST_WALK, _LONGEST_WALK)
        return _walk(place, direction, start, end, arrives=True)
    action = ACTIONS[rng.choice(3, p=(0.7, 0.15, 0.15))]
    if action != "walk" and not first:
        return ChunkPlan(
            place=place, action=action, direction=0, arrives=False, start=position, end=position, caption=""
        )
    room = {1: RIGHTMOST - position, -1: position - LEFTMOST}
    direction = int(rng.choice([d for d in (1, -1) if room[d] >= _SHORTEST_WALK]))
    end = position + direction * rng.uniform(_SHORTEST_WALK, min(_LONGEST_WALK, room[direction]))
    return _walk(place, direction, position, end, arrives=False)


def _walk(place: int, direction: int, start: float, end: float, *, arrives: bool) -> ChunkPlan:
    return ChunkPlan(
        place=place, action="walk", direction=direction, arrives=arrives, start=start, end=float(end), caption=""
    )


def _caption(rng: np.random.Generator, chunk: ChunkPlan, *, species: str, place: str, known: bool) -> str:
    """Words for a chunk; ``known`` says that the protagonist has been at the place before."""

    def pick(words: tuple[str, ...]) -> str:
        return words[rng.integers(len(words))]

    if chunk.arrives:
        verb, way = pick(_WALKS), pick(_DIRECTION_WORDS[chunk.direction])
        arrival = pick((f"back to the {place}", f"and returns to the {place}")) if known else None
        arrival = arrival or pick((f"to the {place}", f"and arrives at the {place}"))
        return f"the {species} {verb} {way} {arrival}"
    if chunk.action == "walk":
        verb, way = pick(_WALKS), pick(_DIRECTION_WORDS[chunk.direction])
        through = pick(("through", "across", "in"))
        return pick(
            (f"the {species} {verb} {way} {through} the {place}", f"in the {place}, the {species} {verb} {way}")
        )
    verb = pick(_STANDS if chunk.action == "stand" else _JUMPS)
    return pick((f"the {species} {verb} in the {place}", f"in the {place}, the {species} {verb}"))
