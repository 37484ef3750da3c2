"""Which characters a prompt may hold, and in which encodings files are read."""

import codecs
import re
import unicodedata
from functools import lru_cache

# Control characters (C0 without tab and newline, DEL, C1), line and paragraph separators, marks that change the
# direction of all text after them, halves of surrogate pairs, and two codes that no XML file may hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
# Fillers and variation selectors are invisible, though Unicode counts them as letters, signs or marks.
_UNSEEN = "\u115f\u1160\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def forbidden(text: str) -> str | None:
    """The name of the first character that no prompt may hold, or None."""
    match = _FORBIDDEN.search(text)
    if match is None:
        return None
    code = ord(match[0])
    if 0xD800 <= code <= 0xDFFF:
        return f"half of a surrogate pair, U+{code:04X}"
    return f"the {'control' if code < 0xA0 else 'invisible'} character U+{code:04X}"


def check_prompt(text: str, name: str) -> None:
    """Check the prompt of no shot, such as a negative prompt; it may be empty.

    Raises:
        ValueError: If it holds a character that no prompt may hold; the message begins with `name`.
    """
    if sign := forbidden(unified(text)):
        raise ValueError(f"{name} holds {sign}; take it out")


@lru_cache(maxsize=8)
def is_blank(text: str) -> bool:
    """Whether a text is empty, or consists of spaces and invisible characters."""
    return all(sign in _UNSEEN or unicodedata.category(sign) in ("Zs", "Zl", "Zp", "Cc", "Cf") for sign in text)


def decoded(content: bytes) -> str:
    """Decode a file: UTF-8, or UTF-16 and UTF-32 with a byte order mark; lines of the result end with a newline alone.

    Raises:
        ValueError: If it is none of these.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("not a text file in UTF-8, nor in UTF-16 or UTF-32 with a byte order mark") from None
    return unified(text)


def unified(text: str) -> str:
    """The text with a newline for every way to end a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def one_line(text: str, length: int = 160) -> str:
    """Text of a file or of another library for a message: short, without line breaks and control characters."""
    line = " ".join(_FORBIDDEN.sub("?", text[: 4 * length]).split())
    return line if len(line) <= length else f"{line[:length]}..."


def shown(value: object, length: int = 40) -> str:
    """A value from a file for a message."""
    if isinstance(value, str):
        return repr(value if len(value) <= length else f"{value[:length]}...")
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    return one_line(repr(value), length) if isinstance(value, int | float) else one_line(str(value), length)
