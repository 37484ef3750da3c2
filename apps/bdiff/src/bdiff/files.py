"""Files: written whole, and told apart by their digest."""

import hashlib
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears complete or not at all."""
    partial = file.with_name(f".{file.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def sha256(file: Path) -> str:
    """The digest of a file, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
