"""The plan of a story with cuts, and the way to the plans of all kinds.

Each chunk is a function of the seed, its index and the chunks before it. So a shorter story is the beginning of the
longer one.
"""

from dataclasses import replace

import numpy as np

from storyworld.elements import (
    ACTION_WORDS,
    DIRECTION_WORDS,
    LEFTMOST,
    MEETING_WORDS,
    PLACES,
    RIGHTMOST,
    SPECIES,
    TAKES,
    THROUGH_WORDS,
    ChunkPlan,
    StoryPlan,
    check_plan,
    pick,
)
from storyworld.takes import plan_place, plan_walk

_ACTIONS = ("walk", "stand", "jump")
_MEETING_SHARE = 0.45  # share of the stays on which the protagonist meets a companion
_SHORTEST_WALK, _LONGEST_WALK = 16.0, 28.0


def plan_story(seed: int, num_chunks: int, *, companions: bool = False, take: str = "story") -> StoryPlan:
    """Plan a video: a story in which the protagonist leaves places and comes back to them, or a take without cuts.

    Nothing is drawn: this is the quick way to the captions, places and actions that ``render`` shows.

    Args:
        seed: Any non-negative integer.
        num_chunks: Number of chunks, at least 1.
        companions: On some stays the protagonist meets a companion, and the captions say so. ``render`` does this at
            richness 2. It is for stories; in a take of one place somebody always passes by, in a walk nobody does.
        take: One of ``TAKES``: a story with cuts, one place, or a walk through a wide place.

    Raises:
        ValueError: If there is no such take, or the seed or the number of chunks is out of range.
    """
    check_plan(seed, num_chunks)
    if take not in TAKES:
        raise ValueError(f"take is {take!r}; expected one of {', '.join(TAKES)}")
    if take == "place":
        return plan_place(seed, num_chunks)
    if take == "walk":
        return plan_walk(seed, num_chunks)
    plan = _plan_cuts(seed, num_chunks)
    return _with_companions(plan, seed) if companions else plan


def _plan_cuts(seed: int, num_chunks: int) -> StoryPlan:
    """A story with cuts between places, without companions."""
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
    return StoryPlan(species=species, places=places, chunks=tuple(chunks))


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
        clause = pick(rng, MEETING_WORDS).format(who)
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
    action = _ACTIONS[rng.choice(3, p=(0.7, 0.15, 0.15))]
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
    if chunk.arrives:
        verb, way = pick(rng, ACTION_WORDS["walk"]), pick(rng, DIRECTION_WORDS[chunk.direction])
        arrival = pick(rng, (f"back to the {place}", f"and returns to the {place}")) if known else None
        arrival = arrival or pick(rng, (f"to the {place}", f"and arrives at the {place}"))
        return f"the {species} {verb} {way} {arrival}"
    if chunk.action == "walk":
        verb, way = pick(rng, ACTION_WORDS["walk"]), pick(rng, DIRECTION_WORDS[chunk.direction])
        through = pick(rng, THROUGH_WORDS)
        return pick(
            rng, (f"the {species} {verb} {way} {through} the {place}", f"in the {place}, the {species} {verb} {way}")
        )
    verb = pick(rng, ACTION_WORDS[chunk.action])
    return pick(rng, (f"the {species} {verb} in the {place}", f"in the {place}, the {species} {verb}"))
