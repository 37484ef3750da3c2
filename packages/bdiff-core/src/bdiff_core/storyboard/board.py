"""The storyboard: shots in order, and which of them is seen at a time."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .characters import forbidden, shown
from .contents import Contents
from .files import Format, contents, read
from .shots import Checker, Item, Shot, Unread, is_number, kind, problem_of


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
        if problem := _title_problem(self.title):
            raise ValueError(problem)
        prompts: set[str] = set()
        for index, shot in enumerate(self.shots):
            problem = problem_of(shot, self.shots[index - 1] if index else None)
            if problem is None and shot.prompt not in prompts:
                prompts.add(shot.prompt)
                if sign := forbidden(shot.prompt):
                    problem = f"the prompt holds {sign}; take it out"
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
        """Index of the shot seen at a time; in a gap (ranges are often inclusive), index of the nearest shot."""
        if not self.is_timed:
            raise ValueError("this storyboard has no times: map its shots to chunks by count")
        following = bisect_right(self.shots, seconds, key=lambda shot: shot.start)
        begun = following - 1
        if begun < 0:
            return 0
        end = self.shots[begun].end
        if end is None or following == len(self.shots):
            return begun
        # Halfway between two shots the later one is seen.
        start = self.shots[following].start
        assert start is not None  # times are given for every shot or for none
        return following if start - seconds <= max(seconds - end, 0.0) else begun

    @classmethod
    def from_prompts(cls, prompts: Sequence[str], seconds: float | int | None = None) -> "Storyboard":
        """A storyboard of prompts in order; `seconds`: how long each of them is seen."""
        if isinstance(prompts, str):
            raise TypeError("prompts is one string; give a list of prompts")
        return _build(Contents([Item(prompt) for prompt in prompts], seconds=seconds), "prompts")

    @classmethod
    def load(cls, path: str | Path) -> "Storyboard":
        """Read a storyboard file; its suffix (.yaml, .yml, .json, .txt, .srt, .vtt) gives the format.

        Without one of these the format is guessed; suffixes of other formats are refused.
        The text is UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        """
        path = Path(path)
        text, format = read(path)
        return cls.parse(text, format=format, source=str(path))

    @classmethod
    def parse(cls, text: str, *, format: Format = "auto", source: str = "storyboard") -> "Storyboard":
        r"""Read a storyboard from text.

        Args:
            text: YAML or JSON holding a list of shots (strings, or mappings with `prompt`, `start`, `end`; `caption`
                and `text` are other names for `prompt`), alone or under `shots`, `captions` or `prompts` beside `title`
                and `seconds` (of each shot), or the `segments` of a transcript; a list `"captions": [...]` as printed
                in the paper's appendix A.7; plain text, a prompt a line, `#` for comments; or subtitles. A prompt may
                begin or end with its range, as in `(00s - 03s)`, `[0:00 - 0:03]` or `0:00-0:03: a fox runs`; what looks
                like a range and cannot be read is refused, unless the shot has `start` or `end`.
            format: `auto` guesses.
            source: where the text comes from, for errors.
        """
        return _build(contents(text, format, source), source)


def _build(found: Contents, source: str) -> Storyboard:
    """Check shots one by one, so that an error can name its line."""
    title, seconds = found.title, found.seconds
    if title is not None and not isinstance(title, str):
        raise ValueError(f"{source}: title is {kind(title)}; expected a string")
    if problem := _title_problem(title):
        raise ValueError(f"{source}: {problem}")
    if seconds is not None and (not is_number(seconds) or seconds <= 0):
        given = seconds.text if isinstance(seconds, Unread) else seconds
        raise ValueError(f"{source}: seconds is {shown(given)}; expected a number above 0")
    shots = _shots(found.items, seconds, source)
    if not shots:
        raise ValueError(f"{source}: storyboard is empty: give it at least one prompt")
    return Storyboard(shots=tuple(shots), title=title)


def _shots(items: Iterable[Item], seconds: float | int | None, source: str) -> list[Shot]:
    shots: list[Shot] = []
    checker = Checker()
    for number, item in enumerate(items, 1):
        where = f"{source}, line {item.line}, shot {number}" if item.line else f"{source}, shot {number}"
        previous = shots[-1] if shots else None
        try:
            shot = checker.shot(item.value, previous if seconds is None else None)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if seconds is not None:
            if shot.start is not None:
                raise ValueError(
                    f"{where}: has a range although seconds is given for every shot; leave one of them out"
                )
            shot = Shot(prompt=shot.prompt, start=(number - 1) * seconds, end=number * seconds)
        if problem := problem_of(shot, previous):
            raise ValueError(f"{where}: {problem}")
        shots.append(shot)
    return shots


def _title_problem(title: str | None) -> str | None:
    sign = forbidden(title) if isinstance(title, str) else None
    return f"the title holds {sign}; take it out" if sign else None
