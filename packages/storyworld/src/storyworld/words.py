"""The words that captions use: what a model that was trained on this world can be asked for."""

import re
from collections.abc import Sequence

from storyworld.elements import (
    ACTION_WORDS,
    DIRECTION_WORDS,
    PLACES,
    SETTINGS,
    SPECIES,
    SPOTS,
    TAKES,
)
from storyworld.plan import plan_story

_PLANS, _CHUNKS = 200, 15  # read for the list of all words and for the examples
_EXAMPLES = 8  # sentences of each kind of video


def words(takes: Sequence[str] = ("story",), *, companions: bool = True) -> dict[str, object]:
    """List the words of the captions of some kinds of video, as data that can be written to a file.

    Args:
        takes: Kinds of video, each one of ``TAKES``.
        companions: Whether the captions of stories name companions, as they do at richness 2.

    Returns:
        ``takes``; ``species``, ``places`` and ``actions`` with their wordings; ``settings`` and ``spots`` if there are
        walks; ``examples``, captions as they are; and ``words``, all single words in alphabetical order.

    Raises:
        ValueError: If there is no such kind of video.
    """
    for take in takes:
        if take not in TAKES:
            raise ValueError(f"take is {take!r}; expected one of {', '.join(TAKES)}")
    captions = {take: _captions(take, companions=companions) for take in takes}
    actions = [action for action in ACTION_WORDS if action != "pace" or "place" in takes]
    found: dict[str, object] = {"takes": list(takes), "species": list(SPECIES)}
    if set(takes) - {"walk"}:
        found["places"] = list(PLACES)
    if "walk" in takes:
        found |= {"settings": list(SETTINGS), "spots": list(SPOTS)}
    found["directions"] = [word for ways in DIRECTION_WORDS.values() for word in ways]
    found["actions"] = {action: list(ACTION_WORDS[action]) for action in actions}
    found["examples"] = [caption for listed in captions.values() for caption in listed[:_EXAMPLES]]
    found["words"] = sorted({
        word for listed in captions.values() for caption in listed for word in re.findall(r"[a-z]+", caption)
    })  # fmt: skip
    return found


def _captions(take: str, *, companions: bool) -> list[str]:
    plans = (plan_story(seed, _CHUNKS, companions=companions, take=take) for seed in range(_PLANS))
    return [chunk.caption for plan in plans for chunk in plan.chunks]
