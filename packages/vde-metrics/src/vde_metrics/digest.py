"""What a file of weights is told by."""

import hashlib
from pathlib import Path

SHOWN = 12
"""Digits of a digest in a name."""


def file_digest(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_digest(path: Path) -> str:
    """The beginning of it, as names show it."""
    return file_digest(path)[:SHOWN]
