"""Reading times and ranges of times as people write them: 00:00:03, 1:02.5, 3 sec, 1m30s, 2 min, (0:03 - 0:06)."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

UNDERSTOOD = (
    "times are read as in (00:00:03 - 00:00:06), (1:02.5 - 1:04), (3s - 6s) or (1m30s - 2 min), "
    "at the start or the end of a prompt; what is no time is written in words, or has start and end of its own"
)

_UNITS: dict[str, float] = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "時", "时"), 3600.0),
}
_SPELLED = ("second", "seconds", "minute", "minutes", "hour", "hours")
_JOINING = ("to", "until", "till", "through", "thru")
_WRONG = {
    "clock": "after a colon come two digits, 00 to 59, and no frames",
    "units": "write a fraction with a point, and no unit twice",
    "bare": "a number has one point or comma at most",
}
# A number with all its colons, points and commas is one token, so that no part of it counts as a number of its own.
_TOKEN = re.compile(
    r"(?P<number>[0-9]++(?:[.,:;][0-9]++)*+)"
    r"|(?P<join>[-~]++>*+|=++>++|>++|\.\.\.?|…|[到至])"
    r"|(?P<word>[秒分時时]|(?:(?![秒分時时到至])[^\W\d_])++)"
    r"|(?P<open>[(<])|(?P<close>\))|(?P<other>\S)"
)
_CLOCK = re.compile(r"(?:([0-9]{1,3}):(?=[0-9]{2}:))?([0-9]{1,4}):([0-9]{2})(?:[.,]([0-9]{1,9}))?")
_RATIO = re.compile(r"[1-9][0-9]*:[0-9](?:[.,][0-9]+)?")
_TENS = re.compile(r"[1-9][0-9]*0")
_NUMBER = re.compile(r"([0-9]{1,15})(?:[.,]([0-9]{1,9}))?")


class Token(NamedTuple):
    """A word, a number, a dash, a bracket or another character of a prompt."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Time:
    """A time or a bare number in a prompt."""

    value: float | None
    """Seconds, or the bare number; None: it cannot be read."""
    last: int
    """Index of the token after it."""
    form: str
    """`bare`, `clock`, or `units`."""
    unit: float | None = None
    """Seconds of its unit, if it has exactly one."""
    spelled: bool = False
    """Whether its unit is a whole word, as in `3 seconds`."""
    metres: bool = False
    """Whether it may be a length: `3m`."""
    decade: bool = False
    """Whether it may be a decade or an age: `1990s`, `20s`."""
    ratio: bool = False
    """Whether it may be a ratio or a score: `16:9`."""


@dataclass(frozen=True, slots=True)
class Range:
    """Two times, and what joins them."""

    start: Time
    end: Time
    chained: bool = False
    """Whether a third number follows, as in a date."""

    @property
    def timed(self) -> list[Time]:
        """Those of the two that are more than bare numbers."""
        return [time for time in (self.start, self.end) if time.form != "bare"]

    @property
    def decades(self) -> bool:
        """Whether it may be decades or ages: `1990s - 2000s`, `20-30s`."""
        tens = (
            self.start.form == "bare" and self.start.value is not None and self.start.value % 10 == 0 < self.start.value
        )
        return self.end.decade and (self.start.decade or tens)

    def seconds(self) -> tuple[float, float]:
        """Start and end.

        Raises:
            ValueError: If they cannot be read; the message says why.
        """
        if self.chained:
            raise ValueError("it has more than two times")
        for time in (self.start, self.end):
            if time.value is None:
                raise ValueError(_WRONG[time.form])
        if all(time.metres for time in self.timed):
            raise ValueError("m may be metres; write min")
        return _in_seconds(self.start, self.end), _in_seconds(self.end, self.start)


def _in_seconds(time: Time, other: Time) -> float:
    """Seconds of a time; a bare number gets the unit of the other time."""
    if time.value is None:
        raise ValueError("one of the two has no number")
    if time.form != "bare" or time.value == 0:
        return time.value
    if other.unit is None:
        raise ValueError("one of the two has no unit")
    return time.value * other.unit


class _Plain(dict[int, str]):
    """For every character the plain one that it stands for; entries are made on demand."""

    def __missing__(self, code: int) -> str:
        self[code] = _plain_character(chr(code))
        return self[code]


_SAME = {
    **dict.fromkeys("[{", "("),
    **dict.fromkeys("]}", ")"),
    **dict.fromkeys("−˗➖⁃", "-"),
    **dict.fromkeys("∼⁓〜", "~"),
    **dict.fromkeys("→⇒➔➜⟶➝►▶⟹⇨", ">"),
    **dict.fromkeys("“”„‟‘’‚‛", '"'),
    "∶": ":",
}
_CATEGORIES = {
    **dict.fromkeys(("Ps", "Pi"), "("),
    **dict.fromkeys(("Pe", "Pf"), ")"),
    "Pd": "-",
    **dict.fromkeys(("Zs", "Zl", "Zp", "Cf", "Cc"), " "),
}


def _plain_character(character: str) -> str:
    if character in _SAME:
        return _SAME[character]
    category = unicodedata.category(character)
    if category in _CATEGORIES and character not in "()":
        return _CATEGORIES[category]
    if category == "Nd":
        return str(unicodedata.decimal(character))
    alike = unicodedata.normalize("NFKC", character)
    return alike.lower() if len(alike) == 1 and alike.isascii() and category != "No" else character


_PLAIN = _Plain()


def plain_text(text: str) -> str:
    """A prompt with the plain character for any dash, bracket, digit or full-width sign; its length stays."""
    return text.translate(_PLAIN)


def tokens_of(text: str) -> list[Token]:
    """The tokens of a prompt."""
    return [Token(match.lastgroup or "", match[0], *match.span()) for match in _TOKEN.finditer(plain_text(text))]


def is_joining(token: Token) -> bool:
    """Whether a token may join two times: a dash, an arrow, or `to`."""
    return token.kind == "join" or (token.kind == "word" and token.text in _JOINING)


def is_unit(token: Token) -> bool:
    """Whether a token is the name of a unit of time."""
    return token.kind == "word" and token.text in _UNITS


def time_at(tokens: Sequence[Token], index: int) -> Time | None:
    """The time or bare number that begins at a token; None: there is none."""
    token = tokens[index]
    if token.kind != "number":
        return None
    before = tokens[index - 1] if index else None
    if before and before.end == token.start and (before.kind == "word" or before.text == "_") and before.text.isascii():
        return None  # mp4, v2
    if ":" in token.text or ";" in token.text:
        return _clock_at(tokens, index)
    return _units_at(tokens, index)


def _clock_at(tokens: Sequence[Token], index: int) -> Time | None:
    token, last = tokens[index], index + 1
    value, ratio = _clock(token.text), bool(_RATIO.fullmatch(token.text))
    if _is_daytime(tokens, last):
        return None
    following = tokens[last] if last < len(tokens) else None
    if following and following.kind == "word":
        if _UNITS.get(following.text) in (1, 60):
            last += 1
        elif following.start == token.end and following.text.isascii():
            value, ratio, last = None, token.text[0] != "0", last + 1
    return Time(value, last, "clock", ratio=ratio)


def _is_daytime(tokens: Sequence[Token], index: int) -> bool:
    """Whether tokens say `am`, `p.m.` or the like."""
    words = [token.text for token in tokens[index : index + 3]]
    return words[:1] in (["am"], ["pm"], ["uhr"]) or words in (["a", ".", "m"], ["p", ".", "m"], ["o", '"', "clock"])


@lru_cache(maxsize=1024)
def _clock(text: str) -> float | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    if int(seconds) > 59 or (hours is not None and int(minutes) > 59):
        return None
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(f"{int(seconds)}.{fraction or 0}")


def _units_at(tokens: Sequence[Token], index: int) -> Time | None:
    """A time with units or a bare number: `3`, `3 s`, `1m30s`, `1 h 2 min 3 sec`."""
    total: float | None = 0.0
    units: list[Token] = []
    while index + 1 < len(tokens) and tokens[index].kind == "number" and is_unit(tokens[index + 1]):
        factor = _UNITS[tokens[index + 1].text]
        if units and factor >= _UNITS[units[-1].text]:
            break
        value = _number(tokens[index].text, tokens[index + 1])
        total = None if value is None or total is None else total + value * factor
        units.append(tokens[index + 1])
        index += 2
    if not units:
        return _bare_at(tokens, index)
    number, unit = tokens[index - 2], units[0]
    if index < len(tokens) and tokens[index].kind == "number" and tokens[index].start == tokens[index - 1].end:
        total, index = None, index + 1  # 1h30
    if index + 1 < len(tokens) and tokens[index].text == "." and _closes(tokens[index + 1]):
        index += 1  # 3 sec. - 6 sec.
    single = len(units) == 1
    return Time(
        total,
        index,
        "units",
        unit=_UNITS[unit.text] if single else None,
        spelled=single and unit.text in _SPELLED,
        metres=single and unit.text == "m",
        decade=single and unit.text == "s" and unit.start == number.end and bool(_TENS.fullmatch(number.text)),
    )


def _bare_at(tokens: Sequence[Token], index: int) -> Time | None:
    token = tokens[index]
    if index + 1 < len(tokens) and tokens[index + 1].kind == "word" and tokens[index + 1].start == token.end:
        return None  # 4k, 2nd
    return Time(_number(token.text, None), index + 1, "bare")


def _closes(token: Token) -> bool:
    return token.kind == "close" or is_joining(token)


def _number(text: str, unit: Token | None) -> float | None:
    match = _NUMBER.fullmatch(text)
    if match is None or (unit and "," in text and len(match[2]) == 3):  # 1,000s: a thousand, or one?
        return None
    return float(f"{match[1]}.{match[2] or 0}")


def range_from(tokens: Sequence[Token], start: Time) -> Range | None:
    """The range that begins with a time; None: no other time follows it."""
    if start.last + 1 >= len(tokens) or not is_joining(tokens[start.last]):
        return None
    end = time_at(tokens, start.last + 1)
    if end is None:
        return None
    rest = tokens[end.last : end.last + 2]
    chained = len(rest) == 2 and rest[0].kind == "join" and rest[1].kind == "number"
    return Range(start, end, chained=chained)


def seconds_of(text: str) -> float | None:
    """Seconds of a text that is a time or a bare number of seconds; None: it is neither."""
    tokens = tokens_of(text) if len(text) <= 80 else []
    time = time_at(tokens, 0) if tokens else None
    return time.value if time and time.last == len(tokens) else None
