"""Reading text files in Unicode encodings, and checking the characters of captions."""

import codecs
import re
from pathlib import Path

# Control characters (C0 but tab and newline, DEL, C1), line and paragraph separators, marks that turn the direction of
# all text after them, halves of surrogate pairs, and two codes that no XML file may hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    All line ends become newlines.

    Raises:
        ValueError: If the file is in none of these encodings.
    """
    content = path.read_bytes()
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8, nor in UTF-16 or UTF-32 with a byte order mark") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_characters(text: str, *, where: str, name: str) -> None:
    """Raise if a text holds a forbidden character, such as a control character.

    Args:
        text: The text.
        where: File and line, for the error.
        name: What the text is, for the error.
    """
    match = _FORBIDDEN.search(text)
    if match:
        raise ValueError(f"{where}: the {name} holds the character U+{ord(match[0]):04X}; take it out")


def shown(value: object, length: int = 40) -> str:
    """A value from a file as one short line for an error message."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = value if isinstance(value, str) else _FORBIDDEN.sub("?", f"{value}")
    text = text if len(text) <= length else f"{text[:length]}..."
    return repr(text) if isinstance(value, str) else text
