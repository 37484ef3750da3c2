"""What a storyboard file holds, whatever its format."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from .characters import decoded, one_line, unified
from .shots import Item

Format = Literal["auto", "yaml", "json", "captions", "text", "subtitles"]

LISTS = ("shots", "captions", "prompts")
MOST_BYTES = 64 * 2**20
_SUFFIXES: dict[str, Format] = {
    ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".txt": "text", ".srt": "subtitles", ".vtt": "subtitles",
}  # fmt: skip
_CUE = re.compile(r"(?:[0-9]++\s*\n)?\s*[0-9:.,]++[ \t]*+--+>[ \t]*+[0-9:.,]++[ \t]*+(?:\n|$)")


@dataclass(frozen=True, slots=True)
class Contents:
    """The shots of a file as they stand there, and what is said of all of them."""

    items: Iterable[Item]
    title: object = None
    seconds: Any = None


def read(path: Path) -> tuple[str, Format]:
    """The text of a file and the format that its suffix names.

    Raises:
        ValueError: If it cannot be read, is no text, or is far too long for a storyboard.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{path}: cannot read the storyboard: {reason.lower()}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path}: is longer than {MOST_BYTES // 2**20} MiB; expected a storyboard")
    try:
        return decoded(content), _SUFFIXES.get(path.suffix.lower(), "auto")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def contents(text: str, format: Format, source: str) -> Contents:
    """What a text of a format holds; `auto` guesses the format.

    Raises:
        ValueError: Naming source and line.
    """
    from . import json_items, text_items, yaml_items

    text = unified(text.removeprefix("\ufeff"))
    if not text.strip():
        raise ValueError(f"{source}: storyboard is empty: give it at least one prompt")
    readers: dict[str, Callable[[str, str], Contents]] = {
        "yaml": yaml_items.read_yaml,
        "json": json_items.read_json,
        "captions": json_items.read_captions,
        "text": text_items.read_lines,
        "subtitles": text_items.read_subtitles,
    }
    format = _guess(text, format)
    if format not in readers:
        raise ValueError(f"format is {one_line(str(format))!r}; expected one of auto, {', '.join(readers)}")
    return readers[format](text, source)


def _guess(text: str, format: Format) -> Format:
    begin = text.lstrip()
    if begin.startswith('"captions"'):
        return "captions"
    if format not in ("auto", "text"):
        return format
    if begin.startswith("WEBVTT") or _CUE.match(begin):
        return "subtitles"
    opening = re.match(r'[\[{]\s*(["{\[\]}]|$)', begin)
    if format == "text":
        return "json" if opening and opening[1] in ('"', "{") else "text"
    first = next(islice((line for line in begin.split("\n", 1)), 1)).rstrip()
    if begin[0] == "{" or (begin[0] == "[" and not re.match(r"\[\s*[0-9]", begin)):
        return "json"
    if first.startswith("- ") or first.split(":")[0] in (*LISTS, "title", "seconds"):
        return "yaml"
    return "text"


def list_key(fields: dict[Any, Any], source: str) -> tuple[str, dict[str, Any]]:
    """The key that holds the shots, and the settings beside it.

    Raises:
        ValueError: If there is none, more than one, or a field that nobody knows.
    """
    present = [key for key in LISTS if key in fields]
    if len(present) != 1:
        raise ValueError(f"{source}: expected exactly one of {', '.join(LISTS)}, got {present or 'none of them'}")
    rest = {key: fields[key] for key in ("title", "seconds") if key in fields}
    unknown = [str(key) for key in fields if key not in (*present, *rest)]
    # Data set entries say captions and carry fields of their own; our two words promise a file written for us.
    if unknown and present != ["captions"]:
        field = one_line(unknown[0], 40)
        raise ValueError(f"{source}: unknown field {field!r}; known are {', '.join(LISTS)}, title and seconds")
    return present[0], rest
