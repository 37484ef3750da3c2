"""The files of a model's folder: those of other content are another model."""

from collections.abc import Mapping
from pathlib import Path

from bdiff.files import sha256
from bdiff_core.files import visible

_SUBFOLDERS = (
    "google/umt5-xxl",
    "transformer",
    "vae",
    "text_encoder",
    "tokenizer",
    "scheduler",
    "image_encoder",
    "image_processor",
)


def digests(model: Path) -> dict[str, str]:
    """SHA-256 of every file of a model folder, by its path in the folder."""
    found = [
        *visible(model, "*.safetensors"),
        *visible(model, "*.pth"),
        *visible(model, "*.json"),
        *(path for folder in _SUBFOLDERS for path in visible(model / folder)),
    ]
    return {path.relative_to(model).as_posix(): sha256(path) for path in sorted(found) if path.is_file()}


def change(model: Path, known: Mapping[str, str]) -> str | None:
    """Which file of a model is not the known one any more, in words; None if all are.

    Args:
        model: The folder.
        known: What `digests` gave before.
    """
    if not model.is_dir():
        return f"{model} is no longer there"
    changed = [name for name, digest in digests(model).items() if known.get(name) != digest]
    return f"{model / changed[0]} has changed" if changed else None
