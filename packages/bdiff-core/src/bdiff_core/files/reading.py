"""Folders without hidden files, and objects of JSON."""

import json
from pathlib import Path
from typing import Any


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """The paths in a folder, sorted, without hidden ones, whose names begin with a dot."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: If the file does not hold one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_twins)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged: it is no text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is damaged: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected an object, found {type(content).__name__}")
    return content


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose keys must differ."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is given twice")
        found[key] = value
    return found
