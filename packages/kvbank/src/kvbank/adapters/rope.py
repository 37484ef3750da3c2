"""The rotary embedding of Wan and of the models that grew from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WanRope:
    """Rotary positions in time, height and width, as Wan 2.1, Self-Forcing and diffusers' Wan compute them.

    Pairs of neighbouring channels turn. Height and width own `2 * (head_dim // 6)` channels each, time the rest.
    There is no table, so positions may be negative and of any size. A rotation by `-position` undoes one by `position`.

    Raises:
        ValueError: If the head width is not a positive even number.
    """

    head_dim: int
    """Width of an attention head."""
    theta: float = 10000.0
    """Base of the frequencies."""

    def __post_init__(self) -> None:
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; expected a positive even number, the width of a head")

    def __call__(
        self, x: Float[Tensor, "branches heads tokens dh"], position: Int[Tensor, "tokens 3"]
    ) -> Float[Tensor, "branches heads tokens dh"]:
        """Rotate queries or keys; computed in float64 (float32 on MPS), returned in the dtype of `x`.

        Args:
            x: Queries or keys, `[branches, heads, tokens, dh]`.
            position: (t, h, w) of each token.

        Raises:
            ValueError: If the heads have another width.
        """
        if x.shape[-1] != self.head_dim:
            raise ValueError(f"the heads are {x.shape[-1]} wide; this WanRope is for {self.head_dim}")
        angle = self._angle(position.to(x.device))
        even, odd = x.to(angle.dtype).unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)

    def _angle(self, position: Int[Tensor, "tokens 3"]) -> Float[Tensor, "tokens pairs"]:
        side = 2 * (self.head_dim // 6)
        exact = torch.float32 if position.device.type == "mps" else torch.float64
        angles = []
        for axis, width in enumerate((self.head_dim - 2 * side, side, side)):
            exponent = torch.arange(0, width, 2, dtype=exact, device=position.device) / max(width, 1)
            angles.append(position[:, axis, None] * self.theta**-exponent)
        return torch.cat(angles, dim=-1)
