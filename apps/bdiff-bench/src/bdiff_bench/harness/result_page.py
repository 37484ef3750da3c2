"""Pages of results, written from figures alone, so that no number is typed by hand."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bdiff.files import write_whole

Section = tuple[Path | None, Callable[[dict[str, Any]], list[str]]]
"""A JSON file and a function that makes paragraphs of its content; None: the page does without this section."""


def write_page(path: Path, parts: Iterable[str], *, title: str, note: str = "") -> None:
    """Write a Markdown page.

    Args:
        path: The page.
        parts: Paragraphs, headings and tables, in this order.
        title: The heading.
        note: A paragraph under the heading.
    """
    write_whole(path, "\n\n".join([f"# {title}", *([note] if note else []), *parts]) + "\n")


def parts_of_files(sections: Sequence[Section]) -> list[str]:
    """The parts of a page that shows several files.

    Raises:
        ValueError: If a file is not what a bench wrote.
    """
    parts: list[str] = []
    for file, parts_of in sections:
        if file is None:
            continue
        try:
            parts += parts_of(json.loads(file.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not the figures of a bench ({error!r}); run the bench again") from None
    return parts
