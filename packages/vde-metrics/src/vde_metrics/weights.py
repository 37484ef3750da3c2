"""Files of weights, read as plain tensors, never as code."""

import pickle
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_NO_WEIGHTS = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    LookupError,
    ValueError,
    EOFError,
    struct.error,
    AssertionError,
    AttributeError,
    TypeError,
)
"""What reading ends with in a file that is damaged or of another kind: torch takes any bytes for instructions."""


def read_weights(path: Path, *, expected: str) -> dict[str, Tensor]:
    """The tensors of a file by their names, on the CPU.

    Args:
        path: a ``.safetensors`` file, or another one as `torch.save` writes it.
        expected: what belongs there, for the errors.

    Raises:
        ValueError: if the file is damaged, or holds something else than named tensors.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except _NO_WEIGHTS as error:  # whose own words are of no use: torch's advise to run what is in the file
        raise ValueError(f"{path}: damaged, or not plain weights; expected {expected}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds something else than tensors by their names; expected {expected}")
    return {str(name): value for name, value in state.items()}


def check_fits(state: dict[str, Tensor], wanted: dict[str, Tensor], *, path: Path, expected: str) -> None:
    """Raise a ValueError that names a tensor if the ones of a file are not those of a network, in name and shape."""
    wrong = sorted(wanted.keys() ^ state.keys())
    wrong += [name for name, value in wanted.items() if name in state and state[name].shape != value.shape]
    if wrong:
        raise ValueError(f"{path}: the weights do not fit the network, {wrong[0]} for one; expected {expected}")
