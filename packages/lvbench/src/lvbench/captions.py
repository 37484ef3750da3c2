"""Caption lists with ranges of seconds, as the paper prints them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_TIME = r"(?:(\d+):)?(\d+(?:\.\d+)?)\s*s?"
# "(00s - 03s)" closes a caption; "(00s–03s)." and "(0:04 - 0:07)" are met too.
_RANGE = re.compile(rf"\s*\(\s*{_TIME}\s*[-–—]\s*{_TIME}\s*\)\s*([.!?]?)\s*$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|“([^”]*)”')


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedChunk:
    """What is to be seen from one second to another."""

    start: float | int
    """Seconds from the beginning of the video."""
    end: float | int
    """Seconds; the paper's ranges are inclusive, so a range often ends a second before the next one starts."""
    caption: str
    """Without the range."""


def read_captions(path: str | Path) -> tuple[CaptionedChunk, ...]:
    """Read a caption list: ``"captions": ["... (00s - 03s)", ...]``, with or without the braces of JSON around it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and the line that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a list of captions")
    try:
        return parse_captions(path.read_text(encoding="utf-8-sig"), source=str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8") from error


def parse_captions(text: str, *, source: str = "captions") -> tuple[CaptionedChunk, ...]:
    """Captions of a list's text; errors begin with ``source`` and the line."""
    opening, closing = text.find("["), text.rfind("]")
    if opening < 0 or closing < opening:
        raise ValueError(f'{source}, line 1: expected a list in brackets, such as "captions": ["A swan (00s - 03s)"]')
    found: list[CaptionedChunk] = []
    position = opening + 1
    while True:
        position += len(text[position:closing]) - len(text[position:closing].lstrip(" \t\r\n,"))
        if position >= closing:
            break
        where = f"{source}, line {text.count(chr(10), 0, position) + 1}"
        match = _QUOTED.match(text, position, closing)
        if not match:
            raise ValueError(f"{where}: expected a caption in quotes, got {text[position:closing][:20]!r}")
        straight, typographic = match.groups()
        caption = typographic if straight is None else _unescaped(straight, where)
        found.append(parse_caption(caption, where=where))
        check_order(found, where=where)
        position = match.end()
    if not found:
        raise ValueError(f"{source}: the list is empty")
    return tuple(found)


def parse_caption(text: str, *, where: str) -> CaptionedChunk:
    """A caption that ends with its range."""
    match = _RANGE.search(text)
    if not match:
        raise ValueError(f"{where}: {text[-24:]!r} does not end with a range of seconds such as (00s - 03s)")
    minutes, seconds, end_minutes, end_seconds, stop = match.groups()
    return CaptionedChunk(
        start=60.0 * int(minutes or 0) + float(seconds),
        end=60.0 * int(end_minutes or 0) + float(end_seconds),
        caption=text[: match.start()] + stop,
    )


def check_order(chunks: list[CaptionedChunk], *, where: str) -> None:
    """Refuse a last chunk that is empty, says nothing, or begins before the one before it ends."""
    last = chunks[-1]
    if not last.caption.strip():
        raise ValueError(f"{where}: the caption is empty")
    if not 0 <= last.start < last.end < float("inf"):
        raise ValueError(f"{where}: the range {last.start:g} to {last.end:g} seconds is empty or no range")
    if len(chunks) > 1 and last.start < chunks[-2].end:
        raise ValueError(
            f"{where}: the range starts at {last.start:g} seconds, before the previous one ends at {chunks[-2].end:g}"
        )


def _unescaped(text: str, where: str) -> str:
    try:
        found: str = json.loads(f'"{text}"', strict=False)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: {text[:20]!r} has a wrong escape ({error.msg.lower()})") from error
    return found
