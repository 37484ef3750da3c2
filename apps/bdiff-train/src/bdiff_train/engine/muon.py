"""Muon: momentum, each matrix of which is made nearly orthogonal before it is applied (Jordan et al., 2024).

On the small convolutional autoencoder of this project it needs a third of the steps of AdamW for the same loss.
"""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_train.engine.distributed import full_tensor, split_like

_ITERATION = (3.4445, -4.7750, 2.0315)  # quintic that drives singular values towards 1 in five rounds
_ROUNDS = 5


def orthogonalize(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Bring all singular values of a matrix near 1 (between 0.7 and 1.2) by a Newton-Schulz iteration."""
    a, b, c = _ITERATION
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def iteration_flops(shape: tuple[int, int]) -> int:
    """Count the operations of `orthogonalize` on a matrix of this shape; a multiplication and an addition are two."""
    short, long = min(shape), max(shape)
    return _ROUNDS * (4 * short**2 * long + 2 * short**3)


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolutions, which it treats as matrices [out, all the rest].

    A matrix that is split among ranks is gathered, and each rank makes it orthogonal; momentum stays split. So each
    rank does as much work as one rank alone. Train models with large matrices with AdamW.

    Args:
        parameters: weights of two or more axes.
        lr: learning rate.
        momentum: share of the old direction, in Nesterov's form.
        dtype: number type of the iteration; its result is approximate by design, so bfloat16 suffices.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self._dtype = dtype
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise ValueError(
                    f"Muon trains weights of two or more axes, got one of shape {tuple(p.shape)}: use AdamW"
                )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Apply the gradients.

        Raises:
            TypeError: If a closure is given.
        """
        if closure is not None:
            raise TypeError("Muon takes no closure; call backward before step()")
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"]
                momentum.lerp_(p.grad, 1 - group["momentum"])
                direction = full_tensor(p.grad.lerp(momentum, group["momentum"])).flatten(1).to(self._dtype)
                scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                update = orthogonalize(direction).to(p.dtype).view(p.shape)
                p.add_(split_like(update, p), alpha=-group["lr"] * scale)
        return None
