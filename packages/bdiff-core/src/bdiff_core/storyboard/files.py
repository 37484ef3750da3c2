"""Reading a storyboard file of any format."""

import os
import re
import select
import stat
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal

from .characters import decoded, one_line, shown, unified
from .contents import LISTS, SEGMENTS, Contents

Format = Literal["auto", "yaml", "json", "captions", "text", "subtitles"]

MOST_BYTES = 64 * 2**20
LONGEST_WAIT = 5.0
"""Seconds to wait for a byte from a pipe."""
_SUFFIXES: dict[str, Format] = {
    ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".txt": "text", ".srt": "subtitles", ".vtt": "subtitles",
}  # fmt: skip
_OTHER_SUFFIXES = (
    ".csv", ".tsv", ".toml", ".ini", ".md", ".rst", ".xml", ".html", ".htm", ".pdf", ".rtf", ".doc", ".docx", ".odt",
    ".xlsx", ".ods", ".jsonl", ".ass", ".ssa", ".py",
)  # fmt: skip
_BEGINNINGS = (
    (b"%PDF", "a PDF"), (b"{\\rtf", "rich text (RTF)"), (b"PK\x03\x04", "a ZIP archive, as .docx and .odt are"),
    (b"<!doctype", "a web page"), (b"<html", "a web page"), (b"<?xml", "XML"),
)  # fmt: skip
_YAML = re.compile(
    r"(?:(?:[ \t]*+(?:#[^\n]*+)?|---[ \t]*+|(?:title|seconds):[^\n]*+)\n)*+"
    rf"(?:{'|'.join((*LISTS, SEGMENTS))}):[ \t]*+(?:#|\n|$)"
)
_CUE = re.compile(r"(?:[0-9]++\s*\n)?\s*[0-9:.,]++[ \t]*+--+>[ \t]*+[0-9:.,]++[ \t]*+(?:\n|$)")


def read(path: Path) -> tuple[str, Format]:
    """The text of a file, and the format that its suffix gives.

    Raises:
        ValueError: If it cannot be read, is no text, or is far too long for a storyboard.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in _OTHER_SUFFIXES and path.exists():
            raise ValueError(f"{path}: {suffix} files are not read; expected {', '.join(_SUFFIXES)}")
        content = _content(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{path}: cannot read the storyboard: {reason.lower()}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path}: is longer than {MOST_BYTES // 2**20} MiB; expected a storyboard")
    begin = content[:16].lower()
    if other := next((name for mark, name in _BEGINNINGS if begin.startswith(mark.lower())), None):
        raise ValueError(f"{path}: is {other}, not a storyboard; expected {', '.join(_SUFFIXES)}")
    try:
        text = decoded(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if "\0" in text:
        raise ValueError(f"{path}: not a text file in UTF-8: it holds null characters")
    return text, _SUFFIXES.get(suffix, "auto")


def _content(path: Path) -> bytes:
    """The bytes of a file; of a file that is too long, one byte more than a storyboard may have."""
    if "\0" in str(path):
        raise ValueError(f"{shown(str(path))}: cannot read the storyboard: its name holds a null character")
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    # Opened in the usual way, a pipe without a writer would block for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return _piped(descriptor, path)
    finally:
        os.close(descriptor)


def _piped(descriptor: int, path: Path) -> bytes:
    content = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    waited = False
    while len(content) <= MOST_BYTES:
        try:
            part = os.read(descriptor, 2**16)
        except BlockingIOError:
            part = None  # there is a writer, and it has not written yet
        if part:
            content += part
            continue
        ended = part is not None
        if ended and (content or waited):
            break
        if not poll.poll(1000 * LONGEST_WAIT):
            raise ValueError(f"{path}: nothing came from it in {LONGEST_WAIT:g} s; expected a storyboard")
        waited = ended
    return bytes(content)


def contents(text: str, format: Format, source: str) -> Contents:
    """The shots and settings of a text in a format; `auto` guesses the format.

    Raises:
        ValueError: If the text is empty or cannot be read; the message names source and line.
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
    if format == "text" and _YAML.match(begin):
        return "yaml"
    if format == "text":
        return "json" if opening and opening[1] in ('"', "{") else "text"
    first = next(islice((line for line in begin.split("\n", 1)), 1)).rstrip()
    if begin[0] == "{" or (begin[0] == "[" and not re.match(r"\[\s*[0-9]", begin)):
        return "json"
    if first.startswith("- ") or first.split(":")[0] in (*LISTS, SEGMENTS, "title", "seconds"):
        return "yaml"
    return "text"
