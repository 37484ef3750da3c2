"""Plans of takes without cuts: one place for the whole video, and a walk through a wide place.

Each chunk is a function of the seed, its index and the chunks before it. So a shorter take is the beginning of the
longer one.
"""

from dataclasses import replace

import numpy as np

from storyworld.elements import (
    ACTION_WORDS,
    DIRECTION_WORDS,
    LEFTMOST,
    PASSING_WORDS,
    PAST_WORDS,
    PLACES,
    RIGHTMOST,
    SCREEN,
    SETTINGS,
    SPECIES,
    SPOTS,
    THROUGH_WORDS,
    ChunkPlan,
    StoryPlan,
    pick,
)

SPACING = 72.0
"""Units of the ground between one spot of a wide place and the next."""

_NOT_THERE = {"forest": "firs", "mountains": "mountain", "beach": "mountain"}  # landmarks that would not stand out
_SHORT_WALK = 18.0, 19.0  # units in a chunk, in a take of one place
_FIRST_SHARE = 0.9  # of that in the first chunk, which has fewer frames
_LONG_WALK = 40.0, 56.0  # in a walk
_SHORTEST = 24.0  # with less room before it the protagonist turns round
_PASSING_CHUNKS = 3  # that it takes to pass by
_OUTSIDE = 14.0  # units beyond the picture's side from which nothing is seen of a companion


def plan_place(seed: int, num_chunks: int) -> StoryPlan:
    """Plan a take of one place: the protagonist acts all the time, and somebody passes by, again and again.

    Every chunk has about as much motion and detail as every other, so that a true video does not drift. That is why one
    companion passes by all the time: some species have more detail than others.
    """
    rng = np.random.default_rng([seed, 10])
    species = pick(rng, SPECIES)
    place = pick(rng, PLACES)
    companion = pick(rng, tuple(one for one in SPECIES if one != species))
    first = int(rng.integers(_PASSING_CHUNKS))  # chunks of the first passing that are over before the video begins
    position = float(rng.uniform(20.0, 44.0))
    chunks: list[ChunkPlan] = []
    for index in range(num_chunks):
        rng = np.random.default_rng([seed, 11, index])
        chunk = _act(rng, position, first=index == 0)
        verb, through = pick(rng, ACTION_WORDS[chunk.action]), pick(rng, THROUGH_WORDS)
        if chunk.action == "walk":
            action = f"the {species} {verb} {pick(rng, DIRECTION_WORDS[chunk.direction])} {through} the {place}"
        else:
            action = f"the {species} {verb} in the {place}"
        direction, crossing = _passing(seed, index + first)
        clause = pick(rng, PASSING_WORDS).format(companion, DIRECTION_WORDS[direction][1])
        chunks.append(replace(chunk, caption=action + clause, companion=companion, crossing=crossing))
        position = chunk.end
    return StoryPlan(species=species, places=(place,), chunks=tuple(chunks), inhabitants=(companion,), take="place")


def plan_walk(seed: int, num_chunks: int) -> StoryPlan:
    """Plan a walk through a wide place, to one of its ends, back to the other, and so on.

    The places of the plan are the spots, in the order in which they stand from left to right. A chunk's place is the
    spot that is nearest to the protagonist in the middle of the chunk.
    """
    rng = np.random.default_rng([seed, 12])
    species = pick(rng, SPECIES)
    setting = pick(rng, SETTINGS)
    kinds = [spot for spot in SPOTS if spot != _NOT_THERE.get(setting)]
    spots = tuple(kinds[i] for i in rng.permutation(len(kinds))[: rng.integers(3, 5)])
    width = SCREEN + SPACING * (len(spots) - 1)
    position = SCREEN / 2 + SPACING * int(rng.integers(len(spots)))
    direction = int(rng.choice([-1, 1]))
    chunks: list[ChunkPlan] = []
    for index in range(num_chunks):
        rng = np.random.default_rng([seed, 13, index])
        chunk, direction = _stroll(rng, position, direction, width=width, first=index == 0)
        middle = (chunk.start + chunk.end) / 2
        spot = int(np.clip(np.rint((middle - SCREEN / 2) / SPACING), 0, len(spots) - 1))
        caption = _walk_caption(rng, chunk, species=species, setting=setting, spot=spots[spot])
        arrives = bool(chunks) and chunks[-1].place != spot
        chunks.append(replace(chunk, place=spot, arrives=arrives, caption=caption))
        position = chunk.end
    return StoryPlan(species=species, places=spots, chunks=tuple(chunks), take="walk", setting=setting, width=width)


def _act(rng: np.random.Generator, position: float, *, first: bool) -> ChunkPlan:
    """One chunk of a take of one place without its caption; the first one is a walk, which shows the protagonist."""
    action = ("walk", "jump", "pace")[rng.choice(3, p=(0.7, 0.15, 0.15))]
    direction, end = 0, position
    if action == "walk" or first:
        room = {1: RIGHTMOST - position, -1: position - LEFTMOST}
        action, direction = "walk", int(rng.choice([d for d in (1, -1) if room[d] >= _SHORT_WALK[1]]))
        end = position + direction * float(rng.uniform(*_SHORT_WALK)) * (_FIRST_SHARE if first else 1.0)
    return ChunkPlan(place=0, action=action, direction=direction, arrives=False, start=position, end=end, caption="")


def _passing(seed: int, index: int) -> tuple[int, tuple[float, float]]:
    """The direction in which the companion passes in a chunk, and its columns before the chunk and at its end."""
    number, part = divmod(index, _PASSING_CHUNKS)
    direction = int(np.random.default_rng([seed, 14, number]).choice([-1, 1]))
    way = np.linspace(-_OUTSIDE, SCREEN + _OUTSIDE, _PASSING_CHUNKS + 1)[part : part + 2]
    start, end = (way if direction == 1 else SCREEN - way).tolist()
    return direction, (start, end)


def _stroll(
    rng: np.random.Generator, position: float, direction: int, *, width: float, first: bool
) -> tuple[ChunkPlan, int]:
    """One chunk of a walk without its caption, and the direction in which the protagonist looks after it."""
    action = ("walk", "stand", "jump")[rng.choice(3, p=(0.84, 0.08, 0.08))]
    if action != "walk" and not first:
        still = ChunkPlan(place=0, action=action, direction=0, arrives=False, start=position, end=position, caption="")
        return still, direction
    room = {1: width - SCREEN / 2 - position, -1: position - SCREEN / 2}
    if room[direction] < _SHORTEST:
        direction = -direction
    end = position + direction * min(float(rng.uniform(*_LONG_WALK)), room[direction])
    walk = ChunkPlan(place=0, action="walk", direction=direction, arrives=False, start=position, end=end, caption="")
    return walk, direction


def _walk_caption(rng: np.random.Generator, chunk: ChunkPlan, *, species: str, setting: str, spot: str) -> str:
    verb = pick(rng, ACTION_WORDS[chunk.action])
    if chunk.action == "walk":
        way, through, past = (
            pick(rng, words) for words in (DIRECTION_WORDS[chunk.direction], THROUGH_WORDS, PAST_WORDS)
        )
        return f"the {species} {verb} {way} {through} the {setting}, {past} the {spot}"
    return f"the {species} {verb} by the {spot} in the {setting}"
