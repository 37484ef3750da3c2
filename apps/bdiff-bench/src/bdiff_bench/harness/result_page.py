"""A page of results from the JSON of benches alone, so that no figure is typed by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bdiff.files import write_whole

Section = tuple[Path | None, Callable[[dict[str, Any]], list[str]]]
"""A JSON file, or None if the page does without, and what makes paragraphs of its content."""


def write_page(path: Path, sections: Sequence[Section], *, title: str, note: str = "") -> None:
    """Write a Markdown page.

    Args:
        path: The page.
        sections: What it shows, in this order.
        title: Its heading.
        note: A paragraph under the heading.

    Raises:
        ValueError: If a file is not what the bench wrote.
    """
    parts = [f"# {title}", *([note] if note else [])]
    for file, parts_of in sections:
        if file is None:
            continue
        try:
            parts += parts_of(json.loads(file.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not the figures of a bench ({error!r}); run the bench again") from None
    write_whole(path, "\n\n".join(parts) + "\n")
