"""Files that are whole whenever they are there."""

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a file that appears complete or not at all."""
    partial = file.with_name(f".{file.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
