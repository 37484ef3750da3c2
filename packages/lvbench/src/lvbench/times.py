"""Time ranges at the end or the start of a caption, such as (00s - 03s), [0:00 - 0:03] or 00:00:03 --> 00:00:06."""

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_UNITS: dict[str, float] = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "時", "时"), 3600.0),
}
_UNIT = rf"(?:{'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![a-z])"
_NUMBER = r"[0-9]{1,9}(?:[.,][0-9]{1,9})?(?![0-9])"
_CLOCK = r"[0-9]{1,4}(?::[0-9]{2}){1,2}(?:[.,][0-9]{1,9})?(?!:?[0-9])(?: ?(?:s|secs?|min)(?![a-z]))?"
_TIMED = rf"(?:{_CLOCK}|{_NUMBER} ?{_UNIT}\.?(?: ?[0-9]{{1,9}} ?{_UNIT}){{0,2}})"
_JOIN = r" {0,9}(?:[-~]{1,4}>?|=>|>|\.{2,3}|…|(?:to|until|till)(?![a-z])|[到至]) {0,9}"
_BEGIN = r"(?<![0-9.,:a-z_~-])"
_RANGE = rf"(?:from )?(?P<start>{_TIMED}|{_NUMBER}){_JOIN}(?P<end>{_TIMED}|{_NUMBER})"
_CLOSED = r" {0,9}(?P<close>[)>]{0,3})"
_AT_END = re.compile(rf"{_BEGIN}(?P<open>(?<![(<])[(<]{{0,3}}) {{0,9}}{_RANGE}{_CLOSED}(?P<stop>\W*)$")
_AT_START = re.compile(rf"^[^\w(<]*(?P<open>[(<]{{0,3}}) {{0,9}}{_RANGE}{_CLOSED}(?![0-9a-z])")
# What looks like a range: two times joined by a dash, a time or half a range in brackets, a time after @ or before
# a colon.
_ANY = rf"(?:[0-9]{{1,4}}(?::[0-9]{{2}}){{1,4}}(?:[.,][0-9]{{1,9}})?(?![0-9:])|{_TIMED})"
_LIKE = re.compile(
    rf"{_BEGIN}(?:{_ANY}{_JOIN}{_ANY}|[(<] ?{_ANY} ?(?:[)>]|{_JOIN}|[/;,|+] ?(?:{_ANY} ?)?[)>])|@ ?{_ANY})"
    rf"|(?<= )-{{1,3}}>? ?{_ANY} ?[)>]|(?<=[(<])-{{1,3}}>? ?{_ANY} ?[)>]"
    rf"|[(<] ?0[0-9]{{0,2}}{_JOIN}[0-9]{{1,4}} ?[)>]|(?<![0-9:])0:[0-9]{_JOIN}[0-9]"
    rf"|^\W*(?:0[0-9]?:[0-9]{{2}}|{_TIMED}(?: ?[:|]| -)|0-[0-9]{{1,4}}:)|(?<= )-{{1,3}} {{0,9}}{_TIMED}\W*$"
)
_TENS = r"[1-9][0-9]{0,8}0"
_DECADES = re.compile(rf"\W*(?:{_TENS}s?\W+(?:to )?)?{_TENS}s\W*")
_SPELLED = re.compile(rf"[(<] ?{_NUMBER} ?(?:seconds?|minutes?|hours?) ?[)>]")
_METRES = re.compile(rf"(?:{_NUMBER} ?m?{_JOIN})?{_NUMBER} ?m")
_PART = re.compile(rf"({_NUMBER}) ?({_UNIT})")
_REACH = 160
"""Longest range in characters. Only this much of either end of a caption is searched."""
_SEPARATORS = " \t\n:;,.|/-‐‑‒–—―−*_>"


@dataclass(frozen=True, slots=True)
class Timed:
    """A caption without its range, and the range in seconds."""

    caption: str
    start: float
    end: float


class _Plain(dict[int, str]):
    """A table for ``str.translate`` that maps dashes, brackets, digits and signs of all scripts to ASCII."""

    def __missing__(self, code: int) -> str:
        self[code] = _plain_character(chr(code))
        return self[code]


def _plain_character(character: str) -> str:
    same = {
        "[": "(",
        "{": "(",
        "]": ")",
        "}": ")",
        "−": "-",
        "⁃": "-",
        "∼": "~",
        "〜": "~",
        "→": ">",
        "⇒": ">",
        "∶": ":",
    }
    if character in same or character in "“”„‘’‚()":
        return same.get(character, character)
    category = unicodedata.category(character)
    classes = {"Ps": "(", "Pi": "(", "Pe": ")", "Pf": ")", "Pd": "-"}
    if category in classes:
        return classes[category]
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] == "Z" or category in ("Cc", "Cf"):
        return " "
    alike = unicodedata.normalize("NFKC", character)
    return alike.lower() if len(alike) == 1 and alike.isascii() and category != "No" else character


_PLAIN = _Plain()


def seconds_of(text: str, unit: float = 1.0) -> float | None:
    """The seconds that a text such as 1:02 or 3.5s stands for, or None if it is no time.

    Args:
        text: The text.
        unit: Seconds of the unit of a number without unit.
    """
    plain = text.translate(_PLAIN).strip() if len(text) <= _REACH else ""
    if re.fullmatch(_CLOCK, plain):
        numbers = re.sub(r" ?[a-z]+$", "", plain).replace(",", ".").split(":")
        if float(numbers[-1]) >= 60 or (len(numbers) == 3 and int(numbers[1]) >= 60):
            return None
        return math.fsum(float(number) * 60**power for power, number in enumerate(reversed(numbers)))
    if re.fullmatch(_TIMED, plain):
        if re.search(r",[0-9]{3} ?[a-z]", plain):  # 1,000s may be a thousand seconds or one
            return None
        return math.fsum(float(number.replace(",", ".")) * _UNITS[name] for number, name in _PART.findall(plain))
    return float(plain.replace(",", ".")) * unit if re.fullmatch(_NUMBER, plain) else None


def timed_caption(text: str, *, strict: bool = False) -> Timed | None:
    """Separate a caption from the time range at its end or start; None if it has no range.

    Args:
        text: The caption with its range.
        strict: Whether the text may have no range. Then numbers without unit, and a range without brackets that might
            be part of a sentence, do not count as a range. In a list of captions every item has a range, so there they
            do.
    """
    plain = text.translate(_PLAIN)
    for match in _candidates(plain):
        bracketed = bool(match["open"] and match["close"])
        whole = not bracketed and plain.lstrip()[:1] in ("(", "<") and plain.rstrip()[-1:] in (")", ">")
        if not (whole or bracketed) and (match["open"] or match["close"]):
            continue
        if match.at_end and not (bracketed or whole or _is_separated(text[: match.start()])):
            continue
        if not _is_range(match, bracketed=bracketed or whole, strict=strict):
            continue
        start, end = _values(match["start"], match["end"])
        if start is not None and end is not None:
            return Timed(_rest(text, match, whole=whole), start, end)
    return None


def _is_separated(before: str) -> bool:
    """Whether the text before a range without brackets ends with a comma, colon, semicolon, bar, dash or line break."""
    stripped = before.rstrip()
    return "\n" in before[len(stripped) :] or stripped[-1:].translate(_PLAIN) in (",", ":", ";", "|", "-", "~")


def _is_range(match: "_Match", *, bracketed: bool, strict: bool) -> bool:
    """Whether a match is a range of times, not of decades, lengths or counts."""
    timed = [name for name in ("start", "end") if not re.fullmatch(_NUMBER, match[name])]
    span = f"{match['start']} - {match['end']}"
    decades = _DECADES.fullmatch(span) is not None
    if bracketed:
        prose = (decades and len(match["start"]) > 3) or _METRES.fullmatch(span) or not timed
        return not (strict and prose)
    if "end" not in timed or (strict and (decades or _METRES.fullmatch(span))):
        return False
    zero = match["start"].strip("0:.,") in ("", "s", "sec")
    return not strict or zero or (len(timed) == 2 and not match.at_end)


def _candidates(plain: str) -> Iterator["_Match"]:
    """What may be a range at the end or at the start of a text."""
    shift = max(0, len(plain) - _REACH)
    if match := _AT_END.search(plain[shift:]):
        yield _Match(match, shift)
    if match := _AT_START.search(plain[:_REACH]):
        yield _Match(match, 0)


class _Match:
    """A match in a part of a text, with positions in the whole text."""

    def __init__(self, match: re.Match[str], shift: int) -> None:
        self.match = match
        self.shift = shift
        self.at_end = "stop" in match.groupdict()

    def __getitem__(self, name: str) -> str:
        return self.match[name]

    def start(self) -> int:
        """Position at which the range begins, with its brackets."""
        return self.shift + self.match.start()

    def end(self) -> int:
        """Position at which the range ends, with its brackets."""
        return self.shift + self.match.end("close")


def _values(start: str, end: str) -> tuple[float | None, float | None]:
    """Seconds of both times of a range; a number without unit has the unit of the other time."""
    units = [_PART.findall(part) for part in (start, end)]
    ends, starts = ([_UNITS[one[0][1]]] if len(one) == 1 else [1.0] for one in (units[1], units[0]))
    return seconds_of(start, ends[0]), seconds_of(end, starts[0])


def _rest(text: str, match: _Match, *, whole: bool) -> str:
    """The caption without its range; punctuation after the range stays."""
    before, after = text[: match.start()], text[match.end() :]
    if match.at_end:
        if whole:
            return before.lstrip()[1:].strip(_SEPARATORS)
        before = before.rstrip() if match["close"] else before.rstrip(_SEPARATORS)
        return (before + "".join(sign for sign in after if sign in ".!?。！？\"'”’")).strip()
    after = after.rstrip()[:-1] if whole else after
    return after.lstrip(_SEPARATORS).strip()


def range_left(text: str) -> str | None:
    """The first part of a text that looks like a time range, or None; decades, durations and lengths do not count."""
    prose = (_DECADES, _SPELLED, _METRES)
    found = _LIKE.finditer(text.translate(_PLAIN))
    match = next((match for match in found if not any(each.fullmatch(match[0]) for each in prose)), None)
    return text[match.start() : match.end()].strip() if match else None
