"""Captions of a video: lists with ranges of seconds, subtitles, or one text for the whole video."""

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvbench.texts import check_characters, read_text, shown
from lvbench.times import range_left, seconds_of, timed_caption

TEXTS = ("caption", "prompt", "text")
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"|“([^”]*+)”', re.DOTALL)
_COMMAS = re.compile(r"[ \t\n,]*+")
_LIST = re.compile(r'"captions"|[\[{]\s*+["“{\]}]')
_CAPTIONS = re.compile(r'"captions"\s*+:')
_ARROW = re.compile(r"--+>")
_CUE = re.compile(r"WEBVTT|(?:[0-9]++\s*\n)?\s*[0-9:.,]++[ \t]*+--+>[^\n]*(?:\n|$)")
_MARKUP = re.compile(r"</?(?:[bciuv]|font|lang|ruby|rt)(?:[ .][^<>]*+)?>|\{\\[^{}]*+\}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedChunk:
    """The caption of a part of a video."""

    start: float | int
    """Seconds from the beginning of the video."""
    end: float | int
    """Seconds from the beginning of the video; infinite means until the video ends.

    The paper's ranges are inclusive, so a range often ends a second before the next one starts."""
    caption: str
    """The text without its range."""


class TwiceError(ValueError):
    """A JSON object has the same key twice."""


def decoder() -> json.JSONDecoder:
    """A JSON decoder that raises ``TwiceError`` for a repeated key and reads integers of 400 digits as infinite."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise TwiceError(f"{shown(key)} is given twice; leave one of them out")
            found[key] = value
        return found

    def integer(digits: str) -> int | float:
        return int(digits) if len(digits) < 400 else math.inf

    return json.JSONDecoder(object_pairs_hook=unique, parse_int=integer, strict=False)


_DECODER = decoder()


def read_captions(path: str | Path) -> tuple[CaptionedChunk, ...]:
    """Read the captions of a video.

    The encoding is UTF-8, or any Unicode encoding with a byte order mark. The file holds one of these:

    - A list, ``"captions": ["... (00s - 03s)", ...]``, with or without the braces of JSON around it; its items may also
      be objects with ``start``, ``end`` and ``caption``.
    - Subtitles, as in files called ``.srt`` and ``.vtt``.
    - Text whose every line ends or begins with its range.
    - Other text, or a JSON object with one ``caption``: the caption of the whole video.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the captions are wrong; the message names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected captions")
    text, source = read_text(path), str(path)
    begin = text.lstrip()
    if path.suffix.lower() in (".srt", ".vtt") or _CUE.match(begin):
        return _parse_subtitles(text, source)
    if path.suffix.lower() == ".json" or _LIST.match(begin):
        return parse_captions(text, source=source)
    return _parse_lines(text, source)


def parse_captions(text: str, *, source: str = "captions") -> tuple[CaptionedChunk, ...]:
    """Read a list of captions from its text; errors begin with ``source`` and the line."""
    if whole := _whole_caption(text, source):
        return whole
    key = _CAPTIONS.search(text)
    position = text.find("[", key.end() if key else 0) + 1
    if position == 0:
        raise ValueError(f'{source}, line 1: expected a list in brackets, such as "captions": ["A swan (00s - 03s)"]')
    found: list[CaptionedChunk] = []
    line, counted = 1, 0
    while True:
        position = _skip_commas(text, position)
        line += text.count("\n", counted, position)
        counted, where = position, f"{source}, line {line}"
        if text[position : position + 1] == "]":
            break
        item, position = _item(text, position, where)
        found.append(chunk_of(item, where=where))
        check_order(found, where=where)
    if _CAPTIONS.search(text, position):
        raise ValueError(f"{source}: 'captions' is given twice; leave one of them out")
    if not found:
        raise ValueError(f"{source}: the list is empty")
    return tuple(found)


def _skip_commas(text: str, position: int) -> int:
    """The position of the next item, after commas and white space."""
    match = _COMMAS.match(text, position)
    assert match is not None  # the pattern matches the empty text, too
    return match.end()


def _whole_caption(text: str, source: str) -> tuple[CaptionedChunk, ...] | None:
    """The caption of a JSON object that has one caption and no list, or None if the text is no such object."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = _DECODER.decode(text)
    except TwiceError as error:
        raise ValueError(f"{source}: {error}") from None
    except json.JSONDecodeError:
        return None  # a list as the paper prints it, with typographic quotes, is no valid JSON
    except RecursionError:
        raise ValueError(f"{source}: its brackets are nested too deeply") from None
    names = [name for name in TEXTS if name in found]
    if "captions" in found or len(names) != 1:
        if not isinstance(found.get("captions"), list):
            raise ValueError(f"{source}: expected a list called captions, or one caption")
        return None
    if not isinstance(found[names[0]], str):
        raise ValueError(f"{source}: {names[0]} is {shown(found[names[0]])}; expected text")
    return (_whole(found[names[0]], source),)


def _item(text: str, position: int, where: str) -> tuple[Any, int]:
    """The item of a list that begins at a position, a caption in quotes or an object, and the position after it."""
    try:
        if text[position : position + 1] == "{":
            return _DECODER.raw_decode(text, position)
        match = _QUOTED.match(text, position)
        if not match:
            raise ValueError(f"{where}: expected a caption in quotes, got {shown(text[position : position + 20])}")
        straight, typographic = match.groups()
        return typographic if straight is None else _DECODER.decode(f'"{straight}"'), match.end()
    except json.JSONDecodeError as error:
        begun = shown(text[position : position + 20])
        reason = "has a wrong escape" if text[position] == '"' else "is not valid JSON"
        raise ValueError(f"{where}: {begun} {reason} ({error.msg.lower()})") from None
    except TwiceError as error:
        raise ValueError(f"{where}: {error}") from None
    except RecursionError:
        raise ValueError(f"{where}: its brackets are nested too deeply") from None


def _parse_lines(text: str, source: str) -> tuple[CaptionedChunk, ...]:
    """Read lines with ranges, or one text for the whole video."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines or timed_caption(lines[0][1], strict=True) is None:
        return (_whole(" ".join(line for _, line in lines), source),)
    found: list[CaptionedChunk] = []
    for number, line in lines:
        where = f"{source}, line {number}"
        found.append(parse_caption(line, where=where))
        check_order(found, where=where)
    return tuple(found)


def _whole(text: str, where: str) -> CaptionedChunk:
    """The caption of the whole video, from its text."""
    text = " ".join(text.split("\n")).strip()
    if left := range_left(text):
        raise ValueError(
            f"{where}: {shown(left)} looks like a range of times; write it in brackets at the end of a line of its own"
        )
    chunk = CaptionedChunk(start=0, end=math.inf, caption=text)
    check_order([chunk], where=where)
    return chunk


def _parse_subtitles(text: str, source: str) -> tuple[CaptionedChunk, ...]:
    """Read SubRip or WebVTT: for each caption a number, the times, lines of text, and an empty line."""
    found: list[CaptionedChunk] = []
    block: list[tuple[int, str]] = []
    for number, line in [*enumerate(text.split("\n"), 1), (0, "")]:
        if line.strip():
            block.append((number, line.strip()))
            continue
        cue = next((index for index, (_, each) in enumerate(block[:2]) if _ARROW.search(each)), None)
        if cue is not None:
            found.append(_cue(block[cue:], source))
            check_order(found, where=f"{source}, line {block[cue][0]}")
        elif block and not block[0][1].startswith(("WEBVTT", "NOTE", "STYLE", "REGION")):
            raise ValueError(f"{source}, line {block[0][0]}: expected 00:00:00,000 --> 00:00:03,000, or an empty line")
        block = []
    if not found:
        raise ValueError(f"{source}: holds no subtitles")
    return tuple(found)


def _cue(block: list[tuple[int, str]], source: str) -> CaptionedChunk:
    """Read one caption of subtitles: numbered lines, of which the first holds the times."""
    number, line = block[0]
    begin, rest = _ARROW.split(line, maxsplit=1)
    words = rest.split(maxsplit=1)
    start, end = seconds_of(begin), seconds_of(words[0]) if words else None
    if start is None or end is None or ":" not in begin:
        raise ValueError(f"{source}, line {number}: expected 00:00:00,000 --> 00:00:03,000, got {shown(line)}")
    caption = " ".join(_MARKUP.sub("", each) for _, each in block[1:]).strip()
    return CaptionedChunk(start=start, end=end, caption=caption)


def chunk_of(item: Any, *, where: str) -> CaptionedChunk:
    """Read an item of a list: a caption that ends with its range, or an object with start, end and caption.

    An ``end`` of null means until the video ends.
    """
    if isinstance(item, str):
        return parse_caption(item, where=where)
    names = [name for name in TEXTS if name in item] if isinstance(item, Mapping) else []
    if len(names) != 1 or item.keys() != {"start", "end", names[0]}:
        raise ValueError(f"{where}: expected start, end and caption, or a caption that ends with (00s - 03s)")
    if not isinstance(item[names[0]], str):
        raise ValueError(f"{where}: {names[0]} is {shown(item[names[0]])}; expected text")
    start = _seconds(item, "start", where)
    end = math.inf if item["end"] is None else _seconds(item, "end", where)
    return CaptionedChunk(start=start, end=end, caption=item[names[0]])


def _seconds(item: Mapping[str, Any], name: str, where: str) -> float:
    value = item[name]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    found = seconds_of(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{where}: {name} is {shown(value)}; expected seconds, or a time such as 00:00:03")
    return found


def parse_caption(text: str, *, where: str) -> CaptionedChunk:
    """Read a caption that ends, or begins, with its range; errors begin with ``where``."""
    found = timed_caption(text)
    if found is None:
        raise ValueError(f"{where}: {shown(text[-24:])} does not end with a range of seconds such as (00s - 03s)")
    if left := range_left(found.caption):
        raise ValueError(f"{where}: has a second range, {shown(left)}; leave one of them out")
    return CaptionedChunk(start=found.start, end=found.end, caption=found.caption)


def check_order(chunks: list[CaptionedChunk], *, where: str) -> None:
    """Raise if the last chunk has an empty range or caption, or begins before the chunk before it ends."""
    last = chunks[-1]
    if not last.caption.strip():
        raise ValueError(f"{where}: the caption is empty")
    check_characters(last.caption, where=where, name="caption")
    if not 0 <= last.start < last.end or last.start == math.inf:
        raise ValueError(
            f"{where}: the range {last.start:g} to {last.end:g} seconds is empty; expected an end after the start"
        )
    if len(chunks) > 1 and last.start < chunks[-2].end:
        raise ValueError(
            f"{where}: the range starts at {last.start:g} seconds, before the previous one ends at {chunks[-2].end:g}"
        )
