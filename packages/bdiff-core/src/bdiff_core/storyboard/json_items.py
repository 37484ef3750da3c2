"""Reading shots from JSON, and from the caption lists of the paper, which are nearly JSON."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from .characters import one_line, shown
from .contents import LISTS, Contents, known_fields, list_key
from .shots import Fields, Item, kind

_GAP = re.compile(r"[ \t\n]*+")
_COMMAS = re.compile(r"[ \t\n,]*+")
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"|“([^”]*+)”', re.DOTALL)
_SECOND = re.compile(rf'"(?:{"|".join(LISTS)})"\s*+:')


def _integer(digits: str) -> int | float:
    """An integer; Python refuses thousands of digits, and no time has so many."""
    return int(digits) if len(digits) < 400 else math.inf


_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: Fields(tuple(pairs)), parse_int=_integer, strict=False)


def read_json(text: str, source: str) -> Contents:
    """A list of shots, alone or in an object."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}, line {error.lineno}: not valid JSON: {error.msg.lower()}") from None
    except RecursionError:
        raise ValueError(f"{source}: not a storyboard: its brackets are nested too deeply") from None
    rest: dict[str, Any] = {}
    key = None
    begin = _after(_GAP, text, 0)
    if isinstance(value, Fields):
        places: dict[str, int] = {}
        for name, line, position in _members(text, begin):
            if name in places:
                raise ValueError(f"{source}, line {line}: {shown(name)} is given twice; leave one of them out")
            places[name] = position
        fields = dict(value.pairs)
        key, rest = list_key(fields, source)
        value, begin = fields[key], places[key]
    if not isinstance(value, list):
        raise ValueError(f"{source}: expected a list of prompts, got {kind(value)}")
    lines = zip(value, _lines(text, begin), strict=True)
    return Contents([Item(known_fields(key, item), line) for item, line in lines], **rest)


def _after(skipped: re.Pattern[str], text: str, position: int) -> int:
    """The position behind what a pattern skips, which may be nothing."""
    found = skipped.match(text, position)
    return position if found is None else found.end()


def _members(text: str, position: int) -> Iterator[tuple[str, int, int]]:
    """Key, line and position of the value of each member of an object."""
    line, counted = 1, 0
    position = _after(_COMMAS, text, position + 1)
    while text[position] != "}":
        line += text.count("\n", counted, position)
        counted = position
        key, position = _DECODER.raw_decode(text, position)
        position = _after(_GAP, text, _after(_GAP, text, position) + 1)
        yield key, line, position
        _, position = _DECODER.raw_decode(text, position)
        position = _after(_COMMAS, text, position)


def _lines(text: str, position: int) -> list[int]:
    """The line of each value of a list that begins at a position."""
    lines, line, counted = [], 1, 0
    position = _after(_COMMAS, text, position + 1)
    while text[position] != "]":
        line += text.count("\n", counted, position)
        counted = position
        lines.append(line)
        _, position = _DECODER.raw_decode(text, position)
        position = _after(_COMMAS, text, position)
    return lines


def read_captions(text: str, source: str) -> Contents:
    """A `"captions": [...]` list without braces; print has turned some of its quotes into typographic ones."""
    opening = text.find("[")
    if opening < 0 or "]" not in text:
        raise ValueError(f'{source}: "captions" needs a list in brackets')
    items: list[Item] = []
    line, counted, position = 1, 0, opening + 1
    while True:
        position = _after(_COMMAS, text, position)
        line += text.count("\n", counted, position)
        counted = position
        if text[position : position + 1] == "]":
            break
        item, position = _caption(text, position, f"{source}, line {line}")
        items.append(Item(item, line))
    if second := _SECOND.search(text, position):
        line += text.count("\n", position, second.start())
        raise ValueError(f"{source}, line {line}: a second list, {second[0]}; leave one of them out")
    return Contents(items)


def _caption(text: str, position: int, where: str) -> tuple[object, int]:
    try:
        if text[position : position + 1] == "{":
            return _DECODER.raw_decode(text, position)
        match = _QUOTED.match(text, position)
        if match is None:
            raise ValueError(f"{where}: expected a prompt in quotes, got {shown(text[position : position + 20])}")
        straight, typographic = match.groups()
        return typographic if straight is None else _DECODER.decode(f'"{straight}"'), match.end()
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: cannot be read: {one_line(error.msg).lower()}") from None
    except RecursionError:
        raise ValueError(f"{where}: its brackets are nested too deeply") from None
