"""Files: written whole, and compared by their digest."""

import hashlib
import json
from pathlib import Path
from typing import Any

from bdiff_core.files import whole_file


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears complete or not at all."""
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")


def to_json(value: Any) -> str:
    """JSON for people; names of files that are not UTF-8 are kept as escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text if _is_unicode(text) else json.dumps(value, indent=2, allow_nan=False)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sha256(file: Path) -> str:
    """The digest of a file, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def missing(file: Path, digest: str | None) -> str | None:
    """What of a file is no longer what it was, in words; None if nothing. Without a digest it has only to be there."""
    if not file.is_file():
        return f"{file} is no longer there"
    return None if digest in (None, sha256(file)) else f"{file} has changed"
