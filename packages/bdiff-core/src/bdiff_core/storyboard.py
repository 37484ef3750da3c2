"""Storyboards: what is to be seen, shot by shot, with or without times."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

Format = Literal["auto", "yaml", "json", "captions", "text"]

_TIME = r"(?:(\d+):)?(\d+(?:\.\d+)?)\s*(s?)"
# "(00s - 03s)" at the end of a caption, as LV-Bench writes it; "(00s–03s)." and "(0:00 - 0:03)" are met too.
_RANGE = re.compile(rf"\s*\(\s*{_TIME}\s*[-–—]\s*{_TIME}\s*\)\s*([.!?]?)\s*$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|“([^”]*)”')
_SUFFIXES: dict[str, Format] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".txt": "text"}
_LISTS = ("shots", "captions", "prompts")


@dataclass(frozen=True, slots=True)
class Shot:
    """One prompt and, if known, when it is to be seen."""

    prompt: str
    """What is to be seen."""
    start: float | int | None = None
    """Seconds from the start of the video; None: the storyboard has no times."""
    end: float | int | None = None
    """Seconds from the start of the video; None: until the next shot starts."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A shot as it was found in a file, before it is checked."""

    value: object
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Storyboard:
    """The shots of one video, in order; either all of them have a start time or none has."""

    shots: tuple[Shot, ...]
    """At least one shot."""
    title: str | None = None
    """A name for people."""

    def __post_init__(self) -> None:
        if not self.shots:
            raise ValueError("storyboard is empty: give it at least one prompt")
        for index, shot in enumerate(self.shots):
            problem = _problem(shot, self.shots[index - 1] if index else None)
            if problem:
                raise ValueError(f"shot {index + 1}: {problem}")

    @property
    def is_timed(self) -> bool:
        """Whether the shots have times."""
        return self.shots[0].start is not None

    @property
    def duration(self) -> float | int | None:
        """Seconds to the end of the last shot; None where no times, or no last end, are given."""
        return self.shots[-1].end

    def shot_at(self, seconds: float | int) -> int:
        """Index of the shot seen at a time; in a gap (ranges are often inclusive), of the nearest one."""
        if not self.is_timed:
            raise ValueError("this storyboard has no times: map its shots to chunks by count")

        def distance(index: int) -> float | int:
            shot, following = self.shots[index], self.shots[index + 1 : index + 2]
            end = shot.end if shot.end is not None else (following[0].start if following else math.inf)
            return max(shot.start - seconds, seconds - end, 0.0)

        # At a shared boundary the later shot has begun, hence the reversed order: min keeps the first it meets.
        return min(reversed(range(len(self.shots))), key=distance)

    @classmethod
    def from_prompts(cls, prompts: Sequence[str], seconds: float | int | None = None) -> "Storyboard":
        """A storyboard of prompts in order; `seconds`: how long each of them is seen."""
        if isinstance(prompts, str):
            raise TypeError("prompts is one string; give a list of prompts")
        return _build([_Item(prompt) for prompt in prompts], seconds=seconds, source="prompts")

    @classmethod
    def load(cls, path: str | Path) -> "Storyboard":
        """Reads a storyboard file; its suffix (.yaml, .yml, .json, .txt) names the format, else it is guessed."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not a text file in UTF-8") from None
        except OSError as error:
            raise ValueError(f"{path}: cannot read the storyboard: {(error.strerror or str(error)).lower()}") from None
        return cls.parse(text, format=_SUFFIXES.get(path.suffix.lower(), "auto"), source=str(path))

    @classmethod
    def parse(cls, text: str, *, format: Format = "auto", source: str = "storyboard") -> "Storyboard":
        r"""Reads a storyboard from text.

        Args:
            text: YAML or JSON holding a list of shots (strings, or mappings with `prompt`, `start`, `end`), alone or
                under `shots`, `captions` or `prompts` beside `title` and `seconds` (of each shot); a list
                `"captions": [...]` as printed in the paper's appendix A.7; or plain text, a prompt a line, `#` for
                comments. A prompt may end with its range, as in `(00s - 03s)`.
            format: `auto` guesses.
            source: where the text comes from, named in errors.
        """
        if not text.strip():
            raise ValueError(f"{source}: storyboard is empty: give it at least one prompt")
        if text.lstrip().startswith('"captions"'):
            format = "captions"
        readers = {"yaml": _read_yaml, "json": _read_json, "captions": _read_captions, "text": _read_lines}
        if format == "auto":
            format = _guess(text)
        if format not in readers:
            raise ValueError(f"format is {format!r}; expected one of auto, {', '.join(readers)}")
        return readers[format](text, source)


def _guess(text: str) -> Format:
    first = next(line for line in text.splitlines() if line.strip()).lstrip()
    if first[0] in "{[":
        return "json"
    if first.startswith("- ") or first.split(":")[0] in (*_LISTS, "title", "seconds"):
        return "yaml"
    return "text"


def _read_lines(text: str, source: str) -> Storyboard:
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return _build([_Item(line, number) for number, line in lines if line and line[0] != "#"], source=source)


def _read_captions(text: str, source: str) -> Storyboard:
    """A `"captions": [...]` list without braces; print has turned some of its quotes into typographic ones."""
    opening, closing = text.find("["), text.rfind("]")
    if opening < 0 or closing < opening:
        raise ValueError(f'{source}: "captions" needs a list in brackets')
    items, position = [], opening + 1
    while True:
        position += len(text[position:closing]) - len(text[position:closing].lstrip(" \t\r\n,"))
        if position >= closing:
            return _build(items, source=source)
        line = text.count("\n", 0, position) + 1
        match = _QUOTED.match(text, position, closing)
        if not match:
            raise ValueError(f"{source}, line {line}: expected a prompt in quotes, got {text[position:][:20]!r}")
        straight, typographic = match.groups()
        prompt = typographic if straight is None else json.loads(f'"{straight}"', strict=False)
        items.append(_Item(prompt, line))
        position = match.end()


def _read_json(text: str, source: str) -> Storyboard:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}, line {error.lineno}: not valid JSON: {error.msg.lower()}") from None
    if isinstance(value, dict):
        key, rest = _list_key(value, source)
        found = value[key]
    else:
        found, rest = value, {}
    if not isinstance(found, list):
        raise ValueError(f"{source}: expected a list of prompts, got {_kind(found)}")
    return _build([_Item(item) for item in found], source=source, **rest)


def _read_yaml(text: str, source: str) -> Storyboard:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        rest = {}
        if isinstance(node, yaml.MappingNode):
            value = loader.construct_mapping(node, deep=True)
            key, rest = _list_key(value, source)
            node = next(child for name, child in node.value if name.value == key)
        if not isinstance(node, yaml.SequenceNode):
            found = _kind(loader.construct_object(node, deep=True)) if node else "nothing"
            raise ValueError(f"{source}: expected a list of prompts, got {found}")
        items = [_Item(loader.construct_object(n, deep=True), n.start_mark.line + 1) for n in node.value]
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{source}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()
    return _build(items, source=source, **rest)


def _list_key(value: dict, source: str) -> tuple[str, dict]:
    """The key that holds the shots, and the settings beside it."""
    present = [key for key in _LISTS if key in value]
    if len(present) != 1:
        raise ValueError(f"{source}: expected exactly one of {', '.join(_LISTS)}, got {present or 'none of them'}")
    rest = {key: value[key] for key in ("title", "seconds") if key in value}
    unknown = [str(key) for key in value if key not in (*present, *rest)]
    # Data set entries say captions and carry fields of their own; our two words promise a file written for us.
    if unknown and present != ["captions"]:
        raise ValueError(f"{source}: unknown field {unknown[0]!r}; known are {', '.join(_LISTS)}, title and seconds")
    return present[0], rest


def _build(items: Iterable[_Item], *, source: str, title: object = None, seconds: object = None) -> Storyboard:
    """Checks shots one by one, so that an error can name its line."""
    if title is not None and not isinstance(title, str):
        raise ValueError(f"{source}: title is {_kind(title)}; expected a string")
    if seconds is not None and (not _is_number(seconds) or seconds <= 0):
        raise ValueError(f"{source}: seconds is {seconds!r}; expected a number above 0")
    shots: list[Shot] = []
    for number, item in enumerate(items, 1):
        where = f"{source}, line {item.line}, shot {number}" if item.line else f"{source}, shot {number}"
        try:
            shot = _shot(item.value)
            if seconds is not None:
                if shot.start is not None:
                    raise ValueError("has a range although seconds is given for every shot; leave one of them out")
                shot = Shot(prompt=shot.prompt, start=(number - 1) * seconds, end=number * seconds)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        problem = _problem(shot, shots[-1] if shots else None)
        if problem:
            raise ValueError(f"{where}: {problem}")
        shots.append(shot)
    if not shots:
        raise ValueError(f"{source}: storyboard is empty: give it at least one prompt")
    return Storyboard(shots=tuple(shots), title=title)


def _shot(value: object) -> Shot:
    start = end = None
    if isinstance(value, dict):
        unknown = [key for key in value if key not in ("prompt", "caption", "start", "end")]
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; put a prompt that contains a colon in quotes")
        start, end = value.get("start"), value.get("end")
        value = value.get("prompt", value.get("caption"))
        for name, given in (("start", start), ("end", end)):
            if given is not None and not _is_number(given):
                raise ValueError(f"{name} is {given!r}; expected seconds, 0 or more")
    if not isinstance(value, str):
        raise ValueError(f"prompt is {_kind(value)}; expected a string")
    match = _RANGE.search(value)
    if match and start is None and end is None and (match[3] or match[6] or match[1] or match[4]):
        start = int(match[1] or 0) * 60 + float(match[2])
        end = int(match[4] or 0) * 60 + float(match[5])
        value = value[: match.start()] + match[7]
    return Shot(prompt=value.strip(), start=start, end=end)


def _problem(shot: Shot, previous: Shot | None) -> str | None:
    """What is wrong with a shot after another, or None."""
    if not isinstance(shot.prompt, str):
        return f"prompt is {_kind(shot.prompt)}; expected a string"
    if not shot.prompt.strip():
        return "prompt is empty"
    for name, value in (("start", shot.start), ("end", shot.end)):
        if value is not None and (not _is_number(value) or value < 0):
            return f"{name} is {value!r}; expected seconds, 0 or more"
    if shot.start is None and shot.end is not None:
        return "has an end but no start"
    if shot.end is not None and shot.end <= shot.start:
        return f"ends at {shot.end:g} s, but starts at {shot.start:g} s"
    if previous is None:
        return None
    if (shot.start is None) != (previous.start is None):
        return "times must be given for every shot or for none"
    if shot.start is not None:
        if shot.start <= previous.start:
            return f"starts at {shot.start:g} s, not after the shot before it ({previous.start:g} s)"
        if previous.end is not None and shot.start < previous.end:
            return f"starts at {shot.start:g} s, while the shot before it lasts until {previous.end:g} s"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return f"a truth value ({value})"
    if isinstance(value, int | float):
        return f"a number ({value!r})"
    names = {dict: "a mapping", list: "a list", str: "a string", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
