"""Digests of files. Models with weights have them in their names."""

import hashlib
from pathlib import Path

SHOWN = 12
"""How many digits of a digest a name shows."""


def file_digest(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits. The file is not read into memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_digest(path: Path) -> str:
    """The first 12 digits of `file_digest`, for names."""
    return file_digest(path)[:SHOWN]
