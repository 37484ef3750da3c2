"""What the lines of a folder were made with: those of another recipe must not be mixed in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bdiff.defaults import Sampling
from bdiff.files.whole import write_whole
from bdiff_bench.harness.jobs import read_lines

RECIPE = "recipe.json"
"""Lies beside the lines."""


def model_recipe(model: Path, sampling: Sampling) -> dict[str, Any]:
    """What the films of a model folder depend on, beside what is told."""
    return {
        "sampling": asdict(sampling),
        "autoencoder": weights_digest(model),
        "transformer": weights_digest(model / "transformer"),
    }


def keep_recipe(lines: Path, recipe: Mapping[str, Any]) -> None:
    """Note what the lines of a file are made with.

    Raises:
        ValueError: As `check_recipe` does.
    """
    check_recipe(lines, recipe)
    write_whole(lines.with_name(RECIPE), json.dumps(recipe, indent=2) + "\n")


def check_recipe(lines: Path, recipe: Mapping[str, Any]) -> None:
    """Whether new lines may join those of a file.

    Raises:
        ValueError: If they are of another recipe, or nobody noted of which.
    """
    if not read_lines(lines):
        return
    file = lines.with_name(RECIPE)
    if not file.exists():
        raise ValueError(
            f"{lines} was written by an older version, which did not note what it was made with; take another --out"
        )
    old, new = _settings(read_recipe(file)), _settings(recipe)
    if differ := [name for name in new if old.get(name) != new[name]]:
        raise ValueError(
            f"{lines.parent} holds figures of another recipe (different: {', '.join(differ)}); take another --out"
        )


def read_recipe(file: Path) -> dict[str, Any]:
    """A recipe as it was kept; what was no setting then was as it is by default."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found | {"sampling": asdict(Sampling()) | found["sampling"]}


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """All of a recipe by name, each setting of sampling by its own."""
    return {**recipe["sampling"], **{name: value for name, value in recipe.items() if name != "sampling"}}
