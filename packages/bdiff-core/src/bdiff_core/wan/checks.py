"""Checks of the parts of a pipeline: of their files before another library loads them, and of their weights after."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bdiff_core.files import visible
from bdiff_core.files.finite import check_finite
from bdiff_core.files.kinds import weight_kind

_WEIGHTS = ("*.safetensors", "*.bin")


def check_files(folder: Path) -> None:
    """Refuse files of a folder that hold no weights; the library that reads them would not say what they are.

    Raises:
        ValueError: If a file of weights holds none, ends too early, or is a link to nothing.
        OSError: If one cannot be read.
    """
    if not folder.is_dir():
        return  # a repository of the hub
    for file in sorted(file for pattern in _WEIGHTS for file in visible(folder, pattern)):
        if not file.exists():
            raise ValueError(f"{file} is a link to {file.readlink()}, which is not there")
        weight_kind(file)


def check_module(module: nn.Module, found: Mapping[str, Any], source: str | Path) -> None:
    """Refuse weights that are missing, which libraries fill with random numbers, or not finite.

    Args:
        module: The module that was loaded.
        found: The loading information of the library.
        source: Where the module was loaded from.

    Raises:
        ValueError: If a parameter is missing or not finite; it is named.
    """
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{source} is incomplete: {missing[0]} is missing, and {len(missing) - 1} more")
    check_finite(module.state_dict().items(), source)
