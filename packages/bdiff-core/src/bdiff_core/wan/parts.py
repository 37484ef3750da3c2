"""What the parts of a pipeline have in common: weights that others load, looked at before and after."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bdiff_core.files import visible
from bdiff_core.files.finite import check_finite
from bdiff_core.files.kinds import weight_kind

_WEIGHTS = ("*.safetensors", "*.bin")


def check_files(folder: Path) -> None:
    """Refuse what stands in place of the weights in a folder, before a library that would not say what it is reads it.

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
    """Refuse weights that are not all there, which libraries make up, or not finite.

    Args:
        module: As it was loaded.
        found: What the library says of loading it.
        source: Where it comes from.

    Raises:
        ValueError: If a parameter was missing, or holds such numbers; it is named.
    """
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{source} is incomplete: {missing[0]} is missing, and {len(missing) - 1} more")
    check_finite(module.state_dict().items(), source)
