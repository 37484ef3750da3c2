"""Luminance of RGB frames."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor


def luminance(frame: UInt8[Tensor, "h w 3"]) -> Float32[Tensor, "h w"]:
    """ITU-R BT.601 luminance of an RGB frame, 0 to 255, not rounded."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=frame.device)
    return frame.float() @ weights
