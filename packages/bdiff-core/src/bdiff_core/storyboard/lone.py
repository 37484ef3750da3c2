"""The place of a time in a prompt, and which single times are refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from .times import Time, Token, is_joining, time_at

_GOES_ON = ("later", "after", "before", "ago", "into", "long", "of", "exposure")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a time or range stands in a prompt."""

    first: int
    """Index of its first token, a bracket or `from` included."""
    last: int
    """Index of the token after it, brackets included."""
    opens: bool
    closes: bool
    at_start: bool
    at_end: bool

    @property
    def bracketed(self) -> bool:
        """Whether brackets stand around it."""
        return self.opens and self.closes

    @property
    def at_edge(self) -> bool:
        """Whether it is at the start or the end of the prompt."""
        return self.at_start or self.at_end


def lone_problem(tokens: Sequence[Token], time: Time, place: Place) -> str | None:
    """Why a single time is refused: in brackets at an edge, half a range, before a dash or colon. None: it is prose."""
    if time.form == "bare" or time.metres or time.value is None:
        return None
    before = tokens[place.first - 1] if place.first else None
    after = tokens[time.last] if time.last < len(tokens) else None
    if before is not None and before.text == "@":
        return "it is a single time"
    if time.decade and 1000 <= time.value <= 2100:
        return None
    if place.bracketed and place.at_edge:
        return "it is a single time"
    closes = after is not None and (is_joining(after) or _ends_soon(tokens, time.last))
    if place.opens and not place.closes and closes:
        return "it is half a range"
    if before is not None and place.closes and _half(tokens, place.first - 1):
        return "it is half a range"
    if _marks_start(tokens, time, place, after) or _marks_end(tokens, time, place, before, after):
        return "it is a single time"
    return None


def _ends_soon(tokens: Sequence[Token], index: int) -> bool:
    """Whether a closing bracket follows, at once or after another time: `(0s / 3s)`, `(3s+)`."""
    while index < len(tokens) and tokens[index].kind == "other":
        index += 1
    other = time_at(tokens, index) if index < len(tokens) else None
    index = other.last if other else index
    return index < len(tokens) and tokens[index].kind == "close"


def _half(tokens: Sequence[Token], index: int) -> bool:
    """Whether a dash stands before a time that a bracket closes: `(- 3s)`, `(start - 3s)`."""
    return tokens[index].kind == "join" and index > 0 and tokens[index - 1].end < tokens[index].end


def _marks_start(tokens: Sequence[Token], time: Time, place: Place, after: Token | None) -> bool:
    """Whether a prompt begins with the time: `0:03 a fox`, `3s a fox`, `3s: a fox`, `3s - a fox`."""
    if not place.at_start or place.opens or after is None:
        return False
    number = tokens[place.first].text
    gap = after.start > tokens[time.last - 1].end
    if _is_stopwatch(number, time) or after.text in (":", "|") or after.kind == "close":
        return True
    if after.kind == "join":
        return gap
    short = tokens[time.last - 1].text == "s" and not time.decade
    return short and gap and after.kind == "word" and after.text not in _GOES_ON


def _marks_end(tokens: Sequence[Token], time: Time, place: Place, before: Token | None, after: Token | None) -> bool:
    """Whether a prompt ends with the time: `a fox - 3s`, `a fox | 3s`, `a fox, 3s`, `a fox 0:03 -`."""
    if not place.at_end or place.opens or before is None:
        return False
    gap = place.first > 1 and before.start > tokens[place.first - 2].end
    if before.text == "|" or (before.kind == "join" and gap) or (after is not None and after.kind == "join"):
        return True
    short = tokens[time.last - 1].text == "s" and not time.decade
    return before.text == "," and (short or _is_stopwatch(tokens[place.first].text, time))


def _is_stopwatch(number: str, time: Time) -> bool:
    """Whether it is likely a time in a video and not a time of day: `0:03`, `00:00:03`."""
    return time.form == "clock" and (number[0] == "0" or number.count(":") > 1)
