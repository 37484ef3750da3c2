"""Reading shots from plain text, one prompt a line, and from subtitles."""

import re

from .characters import shown
from .contents import Contents
from .shots import Fields, Item
from .times import seconds_of

_ARROW = re.compile(r"--+>")
_MARKUP = re.compile(r"</?(?:[bciuv]|font|lang|ruby|rt)(?:[ .][^<>]*+)?>|\{\\[^{}]*+\}", re.IGNORECASE)
_BLOCKS = ("WEBVTT", "NOTE", "STYLE", "REGION")


def read_lines(text: str, source: str) -> Contents:
    """One prompt a line; `#` begins a comment."""
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return Contents([Item(line, number) for number, line in lines if line and line[0] != "#"])


def read_subtitles(text: str, source: str) -> Contents:
    """SubRip (.srt) and WebVTT (.vtt): a number, the times, and lines of text, then an empty line.

    Raises:
        ValueError: If times cannot be read; the message names their line.
    """
    cues: list[tuple[float, Item]] = []
    block: list[tuple[int, str]] = []
    for number, line in [*enumerate(text.split("\n"), 1), (0, "")]:
        if line.strip():
            block.append((number, line.strip()))
        elif block:
            if not block[0][1].startswith(_BLOCKS) or any(_ARROW.search(line) for _, line in block[:2]):
                cues.append(_cue(block, source))
            block = []
    # The order of cues is that of their times, as in players, and not that of the file.
    return Contents([item for _, item in sorted(cues, key=lambda cue: cue[0])])


def _cue(block: list[tuple[int, str]], source: str) -> tuple[float, Item]:
    """The start time of a cue, and its shot."""
    position = next((index for index, (_, line) in enumerate(block[:2]) if _ARROW.search(line)), None)
    if position is None:
        number, line = block[0]
        raise ValueError(f"{source}, line {number}: expected 00:00:00,000 --> 00:00:03,000, got {shown(line, 20)}")
    number, line = block[position]
    start, rest = _ARROW.split(line, maxsplit=1)
    words = rest.split(maxsplit=1)
    begin, end = seconds_of(start.strip()), seconds_of(words[0]) if words else None
    if begin is None or end is None or ":" not in start:
        raise ValueError(f"{source}, line {number}: expected 00:00:00,000 --> 00:00:03,000, got {shown(line)}")
    prompt = " ".join(_MARKUP.sub("", line) for _, line in block[position + 1 :])
    return begin, Item(Fields((("prompt", prompt), ("start", begin), ("end", end))), number)
