"""What a storyboard file holds before it is checked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .characters import one_line
from .shots import FIELDS, Fields, Item

LISTS = ("shots", "captions", "prompts")
"""Keys of a list of shots."""
SEGMENTS = "segments"
"""Key of the list of a transcript."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The shots of a file before they are checked, and the settings beside them."""

    items: Iterable[Item]
    title: object = None
    seconds: Any = None


def list_key(fields: dict[Any, Any], source: str) -> tuple[str, dict[str, Any]]:
    """The key that holds the shots, and the settings beside it.

    Raises:
        ValueError: If there is none, more than one, or an unknown field.
    """
    present = [key for key in (*LISTS, SEGMENTS) if key in fields]
    if len(present) != 1:
        raise ValueError(f"{source}: expected exactly one of {', '.join(LISTS)}, got {present or 'none of them'}")
    rest = {key: fields[key] for key in ("title", "seconds") if key in fields}
    unknown = [str(key) for key in fields if key not in (*present, *rest)]
    # Entries of data sets (captions) and transcripts (segments) have fields of their own. The other keys are ours, so
    # every field beside them must be known.
    if unknown and present not in (["captions"], [SEGMENTS]):
        field = one_line(unknown[0], 40)
        raise ValueError(f"{source}: unknown field {field!r}; known are {', '.join(LISTS)}, title and seconds")
    return present[0], rest


def known_fields(key: str | None, item: object) -> object:
    """A shot of a list; other fields of the shots of transcripts are left out."""
    if key != SEGMENTS or not isinstance(item, Fields):
        return item
    return Fields(tuple(pair for pair in item.pairs if pair[0] in FIELDS))
