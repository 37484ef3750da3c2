"""Finding times in forms that are not read, such as t=0s, (start: 0s, end: 3s), (frames 0-24), between 0s and 3s."""

import re

from .times import plain_text

_UNIT = r"(?:ms|s|secs?|mins?|h|hrs?)(?![a-z0-9])"
_TIME = rf"(?![12][0-9]{{2}}0s)\+? ?(?:[0-9]++:[0-9][0-9:.,]*+|[0-9][0-9.,]*+ ?{_UNIT})"
_JOIN = r" *+(?:[-~]++>*+|=*+>++|\.\.\.?|…|to|until|till|thru|through) *+"
_NAME = r"(?:start|end|begin|stop|duration|length|time|timestamp|timecode|t)(?:[_ ]?time)?"
_FRAMES = r"(?:fr?|frames?)"
_MARK = r"'\"′″"
# Each form begins with a word, a bracket or the first character; none backtracks, so the search is linear in time.
_ODD = re.compile(
    rf"(?<![a-z0-9_]){_NAME} ?= ?\+?[0-9][0-9.,:]*+"
    rf"|(?<![a-z0-9_])t ?\+ ?{_TIME}"
    rf"|[(] ?{_NAME} ?: ?\+?[0-9][0-9.,:]*+"
    rf"|[(] ?duration {_TIME}"
    rf"|\A\W*+(?:start|end|duration) ?: ?{_TIME}"
    rf"|(?<![a-z0-9_])(?:start|end|duration) ?: ?{_TIME}(?=\W*+\Z)"
    rf"|[(] ?\+ ?{_TIME}{_JOIN}{_TIME} ?[)]"
    rf"|[(] ?[0-9]++\. ?{_UNIT}{_JOIN}[0-9]"
    rf"|\A\W*+between {_TIME} and {_TIME}"
    rf"|(?<![a-z0-9_])between {_TIME} and {_TIME}(?=\W*+\Z)"
    rf"|(?:[(]|\A\W*+) ?frames? ?[0-9]++{_JOIN}(?:frames? ?)?[0-9]++"
    rf"|[(] ?[0-9]++ ?{_FRAMES}?{_JOIN}[0-9]++ ?{_FRAMES} ?[)]"
    rf"|[(] ?0[0.,]*+ ?%?{_JOIN}[0-9][0-9.,]*+ ?% ?[)]"
    rf"|[(] ?0[0-9.,{_MARK}]*+{_JOIN}[0-9][0-9.,]*+ ?[{_MARK}][0-9.,{_MARK}]*+ ?[)]"
)


def odd_time(text: str) -> str | None:
    """The first time in a prompt that has such a form; None: there is none."""
    match = _ODD.search(plain_text(text))
    return text[match.start() : match.end()].strip() if match else None
