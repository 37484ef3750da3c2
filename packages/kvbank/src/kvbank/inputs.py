"""What a caller hands over, looked at before it is used: tensors, of finite numbers."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def check_tensor(given: Any, name: str) -> None:
    """Refuse what is no tensor, such as an array or a list.

    Args:
        given: What came.
        name: What it is called, for the error.

    Raises:
        TypeError: If it is none; says how to make one.
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
    """Refuse what is no number of a chunk.

    Raises:
        TypeError: If it is none.
    """
    if isinstance(index, bool) or not isinstance(index, Integral):
        raise TypeError(f"index is {index!r}, a {type(index).__name__}; expected a whole number, that of a chunk")


def check_floats(given: Any, name: str) -> None:
    """Refuse what is no tensor of floating numbers.

    Raises:
        TypeError: If it is none.
    """
    check_tensor(given, name)
    if not given.is_floating_point():
        raise TypeError(f"{name} is {given.dtype}; expected floating numbers")


@torch.no_grad()
def is_finite(*tensors: Tensor) -> bool:
    """Whether no number of any of them is NaN or infinity; waits for their device once.

    A sum tells it at the cost of reading the numbers. One that is not finite may come of finite numbers, so then the
    smallest and the largest decide.
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
