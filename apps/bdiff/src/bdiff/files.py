"""Files: written whole, read as JSON, and told apart by their digest."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Another name to write a file under: it gets its own when all of it is there, and is deleted after an error.

    The file may be read by whom the umask lets; safetensors and temporary files would keep it to their owner.
    """
    partial = file.with_name(f".{file.name}.tmp")
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = partial.stat().st_mode
    try:
        yield partial
        os.chmod(partial, mode)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears complete or not at all."""
    with whole(file) as partial:
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


def read_json(file: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        ValueError: If it is not JSON; the message names the file.
        OSError: If it cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{file} is nested too deeply to be read as JSON") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def sha256(file: Path) -> str:
    """The digest of a file, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def missing(file: Path, digest: str | None) -> str | None:
    """What of a file is no longer what it was, in words; None if nothing. Without a digest it has only to be there."""
    if not file.is_file():
        return f"{file} is no longer there"
    return None if digest in (None, sha256(file)) else f"{file} has changed"
