"""Files: written whole, and told apart by their digest."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Another name to write a file under: it gets its own when all of it is there, and is deleted after an error."""
    partial = file.with_name(f".{file.name}.tmp")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears complete or not at all."""
    with whole(file) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256(file: Path) -> str:
    """The digest of a file, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def missing(file: Path, digest: str | None) -> str | None:
    """What of a file is no longer what it was, in words; None if nothing. Without a digest it has only to be there."""
    if not file.is_file():
        return f"{file} is no longer there"
    return None if digest in (None, sha256(file)) else f"{file} has changed"
