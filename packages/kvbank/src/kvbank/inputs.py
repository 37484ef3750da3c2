"""Checks of arguments: tensors, floating dtypes, finite numbers, chunk numbers."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def check_tensor(given: Any, name: str) -> None:
    """Raise TypeError for anything but a tensor, such as an array or a list.

    Args:
        given: The argument.
        name: Its name, for the error message.

    Raises:
        TypeError: If it is no tensor; the message says how to make one.
    """
    if isinstance(given, Tensor):
        return
    kind = type(given)
    known = {"numpy": "torch.from_numpy({})", "builtins": "torch.tensor({})"}.get(
        kind.__module__, "torch.as_tensor({})"
    )
    if given is None:
        raise TypeError(f"{name} is missing (None); expected a torch.Tensor")
    full = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    word = name.split()[0]
    raise TypeError(f"{name} is a {full}; expected a torch.Tensor: {known.format(word)} makes one")


def check_index(index: Any) -> None:
    """Raise TypeError for anything but a whole number.

    Raises:
        TypeError: If it is no whole number.
    """
    if isinstance(index, bool) or not isinstance(index, Integral):
        raise TypeError(f"index is {index!r}, a {type(index).__name__}; expected a whole number, the number of a chunk")


def check_floats(given: Any, name: str) -> None:
    """Raise TypeError for anything but a tensor of floating numbers.

    Raises:
        TypeError: If it is no tensor, or its dtype is not floating.
    """
    check_tensor(given, name)
    if not given.is_floating_point():
        raise TypeError(f"{name} is {given.dtype}; expected floating numbers")


@torch.no_grad()
def is_finite(*tensors: Tensor) -> bool:
    """Whether all numbers of the tensors are finite; waits for their device once.

    The sum of a tensor is computed first, as it is fast. Finite numbers may have an infinite sum, so if a sum is not
    finite, the smallest and the largest number are looked at.
    """
    filled = [x.to(torch.bfloat16) if x.element_size() == 1 else x for x in tensors if x.numel()]
    if not filled:
        return True
    # Half precision would overflow often, and its sum in another dtype is slow.
    if not any(x.dtype == torch.float16 for x in filled) and _all_finite([x.sum() for x in filled]):
        return True
    return _all_finite([extreme for x in filled for extreme in torch.aminmax(x)])


def _all_finite(numbers: list[Tensor]) -> bool:
    device = numbers[0].device
    return bool(torch.stack([number.to(device, torch.float64) for number in numbers]).isfinite().all())
