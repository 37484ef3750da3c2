"""Shots, as they were found in a file and as they are checked."""

from dataclasses import dataclass
from typing import Any

from .characters import forbidden, shown, unified
from .ranges import Before, TimedPrompt, timed_prompt
from .times import seconds_of

TEXTS = ("prompt", "caption", "text")
FIELDS = (*TEXTS, "start", "end")


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
class Unread:
    """A value of a file that is neither text nor a plain number: a date, a number with colons."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping of a file: its pairs as they stand there."""

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
    """Makes shots of items, and remembers prompts: a file may refer to one long prompt many times."""

    def __init__(self) -> None:
        self._prompts: dict[str, TimedPrompt] = {}

    def shot(self, value: object, previous: Shot | None) -> Shot:
        """The shot that a file's text or mapping stands for.

        Raises:
            ValueError: Saying what is wrong with it.
        """
        start = end = None
        if isinstance(value, Fields):
            value, start, end = _fields(value.unique())
        if not isinstance(value, str):
            raise ValueError(f"prompt is {kind(value)}; expected a string")
        before = None
        if start is None and end is None and previous is not None and previous.start is not None:
            before = Before(previous.start, previous.end)
        found = self._timed(value, before)
        if found.start is None or start is found.start is None:
            return Shot(found.prompt, start, end)
        if start is None and end is None:
            return Shot(found.prompt, found.start, found.end)
        if (start, end) != (found.start, found.end):
            raise ValueError("has a range in its prompt beside start and end; leave one of them out")
        return Shot(found.prompt, start, end)

    def _timed(self, prompt: str, before: Before | None) -> TimedPrompt:
        found = self._prompts.get(prompt) if before is None else None
        if found is None:
            if problem := forbidden(unified(prompt)):
                raise ValueError(f"the prompt holds {problem}; take it out")
            found = timed_prompt(unified(prompt), before)
        if before is None:
            self._prompts[prompt] = found
        return found


def _fields(value: dict[Any, Any]) -> tuple[object, float | int | None, float | int | None]:
    """Prompt, start and end of a mapping."""
    unknown = [key for key in value if key not in FIELDS]
    if unknown:
        if len(value) == 1 and isinstance(unknown[0], str) and isinstance(value[unknown[0]], str):
            joined = f"{unknown[0]}: {value[unknown[0]]}"
            if _is_range(unknown[0]):
                return joined, None, None
        raise ValueError(f"unknown field {shown(unknown[0])}; put a prompt that contains a colon in quotes")
    texts = [name for name in TEXTS if name in value]
    if len(texts) > 1:
        raise ValueError(f"has {texts[0]} and {texts[1]}; leave one of them out")
    start, end = (_seconds(name, value.get(name)) for name in ("start", "end"))
    return value[texts[0]] if texts else None, start, end


def _is_range(text: str) -> bool:
    """`0:00-0:03: a fox runs` without quotes is a mapping to YAML."""
    try:
        found = timed_prompt(text)
    except ValueError:
        return False
    return found.start is not None and not found.prompt


def _seconds(name: str, value: object) -> float | int | None:
    if value is None or is_number(value):
        return value
    text = value.text if isinstance(value, Unread) and ":" in value.text else value
    found = seconds_of(text) if isinstance(text, str) else None
    if found is None:
        given = kind(value) if isinstance(value, Fields | list | bool) else shown(getattr(value, "text", value))
        raise ValueError(f"{name} is {given}; expected seconds, 0 or more, or a time such as 00:00:03")
    return found


def problem_of(shot: Shot, previous: Shot | None) -> str | None:
    """What is wrong with a shot after another, or None."""
    if not isinstance(shot.prompt, str):
        return f"prompt is {kind(shot.prompt)}; expected a string"
    if not shot.prompt or shot.prompt.isspace():
        return "prompt is empty"
    for name, value in (("start", shot.start), ("end", shot.end)):
        if value is not None and (not is_number(value) or value < 0):
            return f"{name} is {shown(value)}; expected seconds, 0 or more"
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


def is_number(value: object) -> bool:
    """Whether it is a number that is finite and fits a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1.7e308


def kind(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, bool):
        return f"a truth value ({value})"
    if isinstance(value, int | float):
        return f"a number ({shown(value)})"
    if isinstance(value, Unread):
        return f"{value.kind} ({shown(value.text).strip(chr(39))})"
    names = {dict: "a mapping", Fields: "a mapping", list: "a list", str: "a string", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
