"""Shots: as they are found in a file, and checked."""

from dataclasses import dataclass
from typing import Any

from .characters import forbidden, is_blank, shown, unified
from .ranges import Before, TimedPrompt, timed_prompt
from .times import seconds_of

TEXTS = ("prompt", "caption", "text", "description", "sentence")
TIMES = {"start": ("start", "start_time"), "end": ("end", "end_time")}
PAIRS = ("timestamp", "segment")
FIELDS = (*TEXTS, *TIMES["start"], *TIMES["end"], *PAIRS)


@dataclass(frozen=True, slots=True)
class Shot:
    """One prompt and, if known, the time for which it is shown."""

    prompt: str
    """What the video shows."""
    start: float | int | None = None
    """Seconds from the start of the video; None: the storyboard has no times."""
    end: float | int | None = None
    """Seconds from the start of the video; None: until the next shot starts."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A value of a file that is neither text nor a plain number: a date, a number with colons."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping in a file: its pairs in order, keys that are given twice included."""

    pairs: tuple[tuple[Any, Any], ...]

    def unique(self) -> dict[Any, Any]:
        """The mapping.

        Raises:
            ValueError: If it has a key twice.
        """
        found: dict[Any, Any] = {}
        for key, value in self.pairs:
            if key in found:
                raise ValueError(f"{shown(key)} is given twice; leave one of them out")
            found[key] = value
        return found


@dataclass(frozen=True, slots=True)
class Item:
    """A shot as it was found in a file, before it is checked."""

    value: object
    line: int | None = None


class Checker:
    """Makes shots of items; it remembers prompts, since a file may refer to one long prompt many times."""

    def __init__(self) -> None:
        self._prompts: dict[tuple[str, bool], TimedPrompt] = {}

    def shot(self, value: object, previous: Shot | None) -> Shot:
        """The shot that a text or mapping of a file describes.

        Raises:
            ValueError: If something is wrong with it.
        """
        start = end = None
        if isinstance(value, Fields):
            value, start, end = _fields(value.unique())
        if not isinstance(value, str):
            raise ValueError(f"prompt is {kind(value)}; expected a string")
        before = None
        apart = start is not None or end is not None
        if not apart and previous is not None and previous.start is not None:
            before = Before(previous.start, previous.end)
        found = self._timed(value, before, apart=apart)
        if found.start is None:
            return Shot(found.prompt, start, end)
        if not apart:
            return Shot(found.prompt, found.start, found.end)
        if (start, end) != (found.start, found.end):
            raise ValueError("has a range in its prompt beside start and end; leave one of them out")
        return Shot(found.prompt, start, end)

    def _timed(self, prompt: str, before: Before | None, *, apart: bool) -> TimedPrompt:
        """A prompt and its range. With times of its own (`apart`), what cannot be read as a range is prose."""
        found = self._prompts.get((prompt, apart)) if before is None else None
        if found is None:
            text = unified(prompt)
            if problem := forbidden(text):
                raise ValueError(f"the prompt holds {problem}; take it out")
            try:
                found = timed_prompt(text, before)
            except ValueError:
                if not apart:
                    raise
                found = TimedPrompt(text.strip())
        if before is None:
            self._prompts[prompt, apart] = found
        return found


def _fields(value: dict[Any, Any]) -> tuple[object, float | int | None, float | int | None]:
    """Prompt, start and end of a mapping."""
    unknown = [key for key in value if key not in FIELDS]
    if unknown:
        advice = f"known are {', '.join((*TEXTS[:3], *TIMES))}"
        if len(value) == 1 and isinstance(unknown[0], str) and isinstance(value[unknown[0]], str):
            if _is_range(unknown[0]):
                return f"{unknown[0]}: {value[unknown[0]]}", None, None
            advice = "put a prompt that contains a colon in quotes"
        raise ValueError(f"unknown field {shown(unknown[0])}; {advice}")
    texts = _one_of(value, TEXTS)
    if pair := _one_of(value, PAIRS):
        given = value[pair]
        if others := [name for name in (*TIMES["start"], *TIMES["end"]) if name in value]:
            raise ValueError(f"has {pair} and {others[0]}; leave one of them out")
        if not isinstance(given, list) or len(given) != 2:
            raise ValueError(f"{pair} is {kind(given)}; expected start and end, as in [0, 3]")
        start, end = (_seconds(name, time) for name, time in zip(TIMES, given, strict=True))
    else:
        start, end = (_seconds(name, value.get(_one_of(value, names) or name)) for name, names in TIMES.items())
    return value[texts] if texts else None, start, end


def _one_of(value: dict[Any, Any], names: tuple[str, ...]) -> str | None:
    """The one of several names for the same field that a mapping has; None: it has none."""
    present = [name for name in names if name in value]
    if len(present) > 1:
        raise ValueError(f"has {present[0]} and {present[1]}; leave one of them out")
    return present[0] if present else None


def _is_range(text: str) -> bool:
    """Whether a key is a range: to YAML `0:00-0:03: a fox runs` without quotes is a mapping."""
    try:
        found = timed_prompt(text)
    except ValueError:
        return False
    return found.start is not None and not found.prompt


def _seconds(name: str, value: object) -> float | int | None:
    if value is None:
        return None
    if isinstance(value, int | float) and is_number(value):
        return value
    text = value.text if isinstance(value, Unread) and ":" in value.text else value
    found = seconds_of(text) if isinstance(text, str) else None
    if found is None:
        given = kind(value) if isinstance(value, Fields | list | bool) else shown(getattr(value, "text", value))
        raise ValueError(f"{name} is {given}; expected seconds, 0 or more, or a time such as 00:00:03")
    return found


def problem_of(shot: Shot, previous: Shot | None) -> str | None:
    """What is wrong with a shot, given the shot before it; None: nothing."""
    prompt: object = shot.prompt
    if not isinstance(prompt, str):
        return f"prompt is {kind(prompt)}; expected a string"
    if is_blank(shot.prompt):
        return "prompt is empty"
    for name, value in (("start", shot.start), ("end", shot.end)):
        if value is not None and (not is_number(value) or value < 0):
            return f"{name} is {shown(value)}; expected seconds, 0 or more"
    if shot.end is not None:
        if shot.start is None:
            return "has an end but no start"
        if shot.end <= shot.start:
            return f"ends at {shot.end:g} s, but starts at {shot.start:g} s"
    return None if previous is None else _problem_after(shot, previous)


def _problem_after(shot: Shot, previous: Shot) -> str | None:
    """What is wrong with the times of a shot beside those of the one before it, or None."""
    if (shot.start is None) != (previous.start is None):
        return "times must be given for every shot or for none"
    if shot.start is not None and previous.start is not None:
        if shot.start <= previous.start:
            return f"starts at {shot.start:g} s, not after the shot before it ({previous.start:g} s)"
        if previous.end is not None and shot.start < previous.end:
            return f"starts at {shot.start:g} s, while the shot before it lasts until {previous.end:g} s"
    return None


def is_number(value: object) -> bool:
    """Whether it is a number that is finite and fits a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1.7e308


def kind(value: object) -> str:
    """The kind of a value, in words."""
    if isinstance(value, bool):
        return f"a truth value ({value})"
    if isinstance(value, int | float):
        return f"a number ({shown(value)})"
    if isinstance(value, Unread):
        return f"{value.kind} ({shown(value.text).strip(chr(39))})"
    names = {dict: "a mapping", Fields: "a mapping", list: "a list", str: "a string", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
