"""Finding the range of times at the start or end of a prompt, and leaving prose with numbers alone."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from .characters import shown
from .lone import Place, lone_problem
from .odd import odd_time
from .times import UNDERSTOOD, Range, Token, range_from, time_at, tokens_of

_QUOTES = "\"'“”„‟‘’«»‹›「」『』"
_KEPT = f".!?。！？…{_QUOTES}"
_SEPARATORS = " \t\n:;,.|/\\-‐‑‒–—―−~*_#>)]}」』】）］｝〉》：；，、。|"
_SEPARATING = ":;,|"


@dataclass(frozen=True, slots=True)
class Before:
    """The times of the shot before."""

    start: float | int
    end: float | int | None


@dataclass(frozen=True, slots=True)
class TimedPrompt:
    """A prompt without its range, and the range."""

    prompt: str
    start: float | None = None
    end: float | None = None


def timed_prompt(text: str, before: Before | None = None) -> TimedPrompt:
    """Separate the range at the start or the end of a prompt from the prompt.

    A range is two times with a dash, an arrow or `to` between them. A time has a colon (`1:02`, `00:00:03,5`) or a unit
    (`3s`, `2 min`, `1m30s`); one of the two may be a bare number, which gets the unit of the other.

    - In brackets of any kind, at the start or the end of a prompt, it is read.
    - Without brackets it is read at the start of a prompt if both times have a colon or unit, if it begins at 0 or no
      earlier than the shot before it ends, or if a colon or comma follows; at the end only behind a comma, colon,
      semicolon, bar, dash or line break.
    - Anything else that looks like a time range is refused: in the middle of a prompt, with an open bracket, with
      impossible minutes, `(3s -)`, `[3s]` at the start or the end, `@3s`, `0:03 text`, `3s text`, `text, 3s`, bare
      numbers from 0 in brackets, `(0 - 3)`, and the forms of the module `odd`.
    - What stays in the prompt: bare numbers (`2-3 people`), durations in words (`waits 3-5 seconds`), decades and ages
      (`the 1990s - 2000s`), ratios, lengths in m, one time of day in a sentence (`at 10:30`, `9:00 am - 5:00 pm`), one
      time in brackets between words (`a man (30s) talks`).

    Args:
        text: The prompt.
        before: The shot before, if it has times.

    Raises:
        ValueError: If it holds something that looks like a range and cannot be read as one.
    """
    if not any(character.isdecimal() for character in text):
        return TimedPrompt(text.strip())
    tokens = tokens_of(text)
    try:
        found = _whole(text, tokens)
    except ValueError:
        if before is None:
            raise
        found = TimedPrompt(text)
    if found.start is None and before is not None:
        found = _Scan(text, tokens, before).result()
    if found.start is not None and _whole(found.prompt, tokens_of(found.prompt)).start is not None:
        raise ValueError(f"has more than one range in {shown(text)}; {UNDERSTOOD}")
    if odd := odd_time(found.prompt):
        raise ValueError(f"{shown(odd)} looks like a time and is not read; {UNDERSTOOD}")
    return found


def _whole(text: str, tokens: list[Token]) -> TimedPrompt:
    """The prompt and its range; brackets around the whole prompt are dropped, as in `[0s-3s: a fox runs]`."""
    if len(tokens) > 2 and tokens[0].kind == "open" and tokens[-1].kind == "close" and _one_pair(tokens):
        inner = text[tokens[0].end : tokens[-1].start]
        found = _Scan(inner, tokens_of(inner)).result()
        if found.start is not None:
            return found
    return _Scan(text, tokens).result()


def _one_pair(tokens: Sequence[Token]) -> bool:
    """Whether the first bracket closes with the last token."""
    depth = 0
    for token in tokens[:-1]:
        depth += {"open": 1, "close": -1}.get(token.kind, 0)
        if depth == 0:
            return False
    return depth == 1


class _Scan:
    """A search for the range of a prompt, from its first number to its last."""

    def __init__(self, text: str, tokens: list[Token], before: Before | None = None) -> None:
        self.text = text
        self.before = before
        self.tokens = tokens
        indices = range(len(tokens))
        self.first_content = next((index for index in indices if _is_content(tokens[index])), 0)
        self.last_content = next((index for index in reversed(indices) if _is_content(tokens[index])), -1)

    def result(self) -> TimedPrompt:
        """The prompt without its range."""
        found: TimedPrompt | None = None
        last = 0
        for index in [index for index, token in enumerate(self.tokens) if token.kind == "number"]:
            if index < last:
                continue
            time = time_at(self.tokens, index)
            if time is None:
                continue
            span = range_from(self.tokens, time)
            if span is not None:
                place = self._place(index, span.end.last)
                if self._is_read(span, place):
                    if found is not None:
                        raise self._refused(place, "has more than one range")
                    found = self._without(span, place)
                last = span.end.last
            else:
                place = self._place(index, time.last)
                if reason := lone_problem(self.tokens, time, place):
                    raise self._refused(place, reason)
                last = time.last
        return found or TimedPrompt(self.text.strip())

    def _place(self, first: int, last: int) -> Place:
        start, stop = first, last
        while first and self.tokens[first - 1].text in ("(", "<", "from"):
            first -= 1
        opens = sum(token.kind == "open" for token in self.tokens[first:start])
        while last < len(self.tokens) and self.tokens[last].text in (")", ">") and last - stop < max(1, opens):
            last += 1
        return Place(
            first,
            last if opens else stop,
            opens=opens > 0,
            closes=last > stop,
            at_start=self.first_content >= first,
            at_end=self.last_content < last,
        )

    def _is_read(self, span: Range, place: Place) -> bool:
        """Whether a range is read; False: it is prose.

        Raises:
            ValueError: If it looks like a range of times and cannot be read.
        """
        if not span.timed:
            self._check_bare(span, place)
            return False
        if self._is_prose(span, place):
            return False
        if place.opens and not place.closes:
            raise self._refused(place, "its bracket is not closed")
        spelled = all(time.spelled for time in span.timed) and len(span.timed) == 1
        if not place.at_edge:
            if spelled and not place.bracketed:
                return False
            raise self._refused(place, "it stands in the middle")
        try:
            start, end = span.seconds()
        except ValueError as error:
            raise self._refused(place, str(error)) from None
        if end <= start:
            raise self._refused(place, "it ends before it starts")
        if place.closes and not place.opens and not place.at_start:
            raise self._refused(place, "its bracket holds more")
        if place.bracketed or self._is_plain(span, place, start):
            return True
        if spelled:
            return False
        raise self._refused(place, "put it in brackets")

    def _is_prose(self, span: Range, place: Place) -> bool:
        """Whether it is likely decades, ages, a ratio or lengths, and not times."""
        if span.decades and (self.before is None or self._word_before(place)):
            first = span.start.value
            if not place.bracketed or (first is not None and 1000 <= first <= 2100):
                return True
        if span.start.ratio and span.end.form == "bare" and not place.at_edge and not place.bracketed:
            return True  # a passage of a text: Psalm 23:1-6
        if all(time.ratio for time in (span.start, span.end)):
            return not place.bracketed
        return all(time.metres for time in span.timed) and not (place.bracketed and place.at_edge)

    def _is_plain(self, span: Range, place: Place, start: float) -> bool:
        """Whether a range without brackets at an edge of a prompt is clearly one."""
        if place.at_start:
            later = self.before is not None and start >= (self.before.end or self.before.start)
            return start == 0 or later or len(span.timed) == 2 or self._separated_after(place)
        previous, first = self.tokens[place.first - 1], self.tokens[place.first]
        return previous.text in _SEPARATING or previous.text[0] in "-~" or "\n" in self.text[previous.end : first.start]

    def _word_before(self, place: Place) -> bool:
        """Whether a word before it continues a sentence, as in `in her 20s - 30s`."""
        words = ("the", "her", "his", "their", "in", "early", "mid", "late", "my", "its", "our", "your")
        return place.first > 0 and self.tokens[place.first - 1].text in words

    def _separated_after(self, place: Place) -> bool:
        if place.last >= len(self.tokens):
            return False
        following = self.tokens[place.last]
        gap = self.text[self.tokens[place.last - 1].end : following.start]
        return following.text in _SEPARATING or following.kind in ("join", "close") or "\n" in gap

    def _check_bare(self, span: Range, place: Place) -> None:
        """Refuse two bare numbers that begin at 0 in brackets, or that follow a unit; other bare numbers are prose.

        Raises:
            ValueError: If they are refused.
        """
        before = self.tokens[place.first - 1] if place.first else None
        named = before is not None and before.text in ("sec", "secs", "seconds", "min", "mins", "minutes")
        equals = before is not None and before.text == "=" and self.tokens[max(0, place.first - 2)].text == "t"
        zero = self.tokens[span.start.last - 1].text[0] == "0"
        marked = place.at_edge and (place.bracketed or (place.at_start and self._follows(place, ":|")))
        start, end = span.start.value, span.end.value
        rising = start is not None and end is not None and start < end
        if rising and not span.chained and (named or equals or (zero and marked)):
            raise self._refused(place, "its numbers have no unit")

    def _follows(self, place: Place, signs: str) -> bool:
        return place.last < len(self.tokens) and self.tokens[place.last].text in signs

    def _without(self, span: Range, place: Place) -> TimedPrompt:
        """The prompt without a range at one of its edges."""
        start, end = span.seconds()
        before, after = self.text[: self.tokens[place.first].start], self.text[self.tokens[place.last - 1].end :]
        if place.at_start:
            prompt = "".join(sign for sign in before if sign in _QUOTES) + after.lstrip(_SEPARATORS)
        else:
            before = before.rstrip() if place.bracketed else before.rstrip(" \t\n:;,|-‐‑‒–—―−~")
            prompt = before + "".join(sign for sign in after if sign in _KEPT)
        return TimedPrompt(prompt.strip(), start, end)

    def _refused(self, place: Place, reason: str) -> ValueError:
        first, last = self.tokens[place.first].start, self.tokens[place.last - 1].end
        return ValueError(
            f"{shown(self.text[first:last])} looks like a time range and is not read ({reason}); {UNDERSTOOD}"
        )


def _is_content(token: Token) -> bool:
    """Whether a token is more than punctuation."""
    if token.kind == "other":
        return not token.text.isascii() and unicodedata.category(token.text)[0] not in "PZC"
    return token.kind in ("number", "word")
