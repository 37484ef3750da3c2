"""What the lines of a folder were made with, so that lines of other settings or weights are not added."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bdiff import Sampling
from bdiff.files import write_whole
from bdiff_bench.harness.jobs import read_lines

RECIPE = "recipe.json"
"""The file beside the lines."""


def model_recipe(model: Path, sampling: Sampling) -> dict[str, Any]:
    """The settings and weights of a model folder that its videos depend on."""
    return {
        "sampling": asdict(sampling),
        "autoencoder": weights_digest(model),
        "transformer": weights_digest(model / "transformer"),
    }


def keep_recipe(lines: Path, recipe: Mapping[str, Any]) -> None:
    """Write beside a file of lines what they are made with.

    Raises:
        ValueError: As `check_recipe` does.
    """
    check_recipe(lines, recipe)
    write_whole(lines.with_name(RECIPE), json.dumps(recipe, indent=2) + "\n")


def check_recipe(lines: Path, recipe: Mapping[str, Any]) -> None:
    """Check that new lines may be added to those of a file.

    Raises:
        ValueError: If the lines there were made with another recipe, or without a recipe.
    """
    if not read_lines(lines):
        return
    file = lines.with_name(RECIPE)
    if not file.exists():
        raise ValueError(
            f"{lines} was written by an older version, which did not note what it was made with; take another --out"
        )
    old, new = _flat(read_recipe(file)), _flat(recipe)
    if differ := [name for name in new if old.get(name) != new[name]]:
        raise ValueError(
            f"{lines.parent} holds figures of another recipe (different: {', '.join(differ)}); take another --out"
        )


def read_recipe(file: Path) -> dict[str, Any]:
    """The recipe in a file, of this version or an older one.

    Settings of sampling get the names they have now. Those that an older version did not have get their defaults.
    """
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found | {"sampling": asdict(Sampling.from_json(found["sampling"]))}


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with the settings of sampling among the other entries."""
    return {**recipe["sampling"], **{name: value for name, value in recipe.items() if name != "sampling"}}
