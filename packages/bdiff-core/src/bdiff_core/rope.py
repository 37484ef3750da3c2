"""Rotary positions in time, height and width, for any integer position."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotation(
    position: Int[Tensor, "*tokens 3"], head_dim: int, theta: float = 10000.0
) -> tuple[Float[Tensor, "*tokens pairs"], Float[Tensor, "*tokens pairs"]]:
    """Cosine and sine by which the pairs of a head turn at each position.

    Height and width own `2 * (head_dim // 6)` channels each and time the rest, as in Wan 2.1. No table is
    needed, so positions may be negative and of any size.

    Args:
        position: Time, row and column of each token.
        head_dim: Width of an attention head.
        theta: Base of the frequencies.
    """
    side = 2 * (head_dim // 6)
    # At 10,000 frames an angle in float32 is wrong by a thousandth, so float64 is used where the device has it.
    exact = torch.float32 if position.device.type == "mps" else torch.float64
    angles = []
    for axis, width in enumerate((head_dim - 2 * side, side, side)):
        exponent = torch.arange(0, width, 2, dtype=exact, device=position.device) / max(width, 1)
        angles.append(position[..., axis, None] * theta**-exponent)
    angle = torch.cat(angles, dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(
    x: Float[Tensor, "*batch dh"], cos: Float[Tensor, "*other pairs"], sin: Float[Tensor, "*other pairs"]
) -> Float[Tensor, "*batch dh"]:
    """Turn the pairs (0, 1), (2, 3), ... of the last axis, in float32; the result has the dtype of `x`."""
    single = x.float()
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic and has no code for complex numbers
        even, odd = single.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:  # the same products as one pass over memory, ten times as fast
        pairs = torch.view_as_complex(_in_pairs(single).unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * torch.complex(cos, sin))
    return turned.flatten(-2).to(x.dtype)


def _in_pairs(x: Float[Tensor, "*batch dh"]) -> Float[Tensor, "*batch dh"]:
    """The same numbers, copied unless the pairs of the last axis are laid out in memory as complex numbers are."""
    if x.stride(-1) == 1 and x.storage_offset() % 2 == 0 and all(step % 2 == 0 for step in x.stride()[:-1]):
        return x
    return x.clone(memory_format=torch.contiguous_format)
