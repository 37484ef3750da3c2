"""Dynamic degree by RAFT."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.models.digest import short_digest
from vde_metrics.models.weight_files import check_fits, read_weights
from vde_metrics.protocols import OpticalFlow
from vde_metrics.vbench.motion_smoothness import border
from vde_metrics.video.frames import Frames, checked_frames, written_frames

RATE = 8
"""Frames per second that VBench uses."""
MULTIPLE = 8
"""RAFT needs sides that are multiples of this."""
THRESHOLD, REFERENCE_SIDE = 6.0, 256.0
"""A pair moves if its flow exceeds 6 pixels in a picture whose shorter side has 256 pixels."""
TOP_SHARE = 0.05
"""Share of the pixels, the fastest ones, whose flow is averaged."""
UPDATES = 20
"""Iterations of RAFT."""
RAFT_FILE = "raft_large_C_T_V1-22a6c225.pth"


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicDegree:
    """VBench's dynamic degree: 1 for a video that moves, 0 for one that does not.

    About 8 frames per second are used. A pair of neighbouring ones moves if the flow of its fastest 5% of pixels is, on
    average, longer than 6/256 of the picture's shorter side. The video moves if the number of moving pairs is at least
    a quarter of the number of frames. The score of a chunk is 0 or 1, so its drift error says little: it is a sum of
    weights, 0, or infinite if the first chunk does not move. `plain_scores` is the better use.
    """

    flow: OpticalFlow
    """Optical flow. VBench uses RAFT: `TorchvisionRAFT`, or your own adapter."""
    fps: float
    """Frames per second of the videos."""

    protocol: ClassVar[str] = "released"
    name: ClassVar[str] = "dynamic_degree"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}; expected frames per second, such as 24.0")

    @property
    def interval(self) -> int:
        """Distance of the frames that are used."""
        return max(1, round(self.fps / RATE))

    def score(self, frames: Frames) -> float:
        """1.0 or 0.0 for one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        shown = list(checked_frames(written_frames(frames)))[:: self.interval]
        needed = round(4 * (len(shown) / 16.0))
        threshold = THRESHOLD * (min(shown[0].shape[:2]) / REFERENCE_SIDE)
        moving = 0
        for before, after in pairwise(shown):
            moving += fastest(self.flow.flow(padded(before, after))[0]) > threshold
            if moving >= needed:
                return 1.0
        return 0.0


def padded(before: UInt8[Tensor, "h w 3"], after: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "2 i j 3"]:
    """Two frames, padded to sides that are multiples of 8 by repeating the border."""
    pads = border(before.shape[0], before.shape[1], MULTIPLE)
    pixels = torch.stack([before, after]).permute(0, 3, 1, 2).float()
    return F.pad(pixels, pads, mode="replicate").byte().permute(0, 2, 3, 1)


def fastest(flow: Float32[Tensor, "h w 2"]) -> float:
    """Mean length of the largest 5% of the flow. The padding counts too."""
    lengths = torch.linalg.vector_norm(flow, dim=-1).flatten()
    return float(lengths.topk(int(len(lengths) * TOP_SHARE)).values.mean())


class TorchvisionRAFT:
    """RAFT of torchvision with the weights that VBench uses.

    They are those of RAFT's paper, trained on FlyingChairs and FlyingThings3D. torchvision is not a dependency of this
    package. Install it in a version that fits your torch.
    """

    def __init__(self, weights: str | PathLike[str] = RAFT_FILE, *, device: str | torch.device = "cpu") -> None:
        """Find the weights. They are read later.

        Args:
            weights: file of weights.
            device: where the network runs.

        Raises:
            FileNotFoundError: if the file is missing. The message says which file is needed, and where.
        """
        self.path = Path(weights)
        self._device = torch.device(device)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path}: no such file; put {RAFT_FILE} of download.pytorch.org/models there, or give its path"
            )

    def __repr__(self) -> str:
        return f"TorchvisionRAFT({str(self.path)!r})"

    @cached_property
    def name(self) -> str:
        """``raft`` and the first digits of the sha256 of the weights."""
        return f"raft {short_digest(self.path)}"

    @torch.no_grad()
    def flow(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, "t-1 h w 2"]:
        """Flow between neighbouring frames after 20 iterations. Both sides must be multiples of 8."""
        pixels = frames.permute(0, 3, 1, 2).float().to(self._device) / 127.5 - 1
        found: Tensor = self._model(pixels[:-1], pixels[1:], num_flow_updates=UPDATES)[-1]
        return found.permute(0, 2, 3, 1).float().cpu()

    @cached_property
    def _model(self) -> Any:
        try:
            from torchvision.models.optical_flow import raft_large
        except ImportError as error:
            raise ImportError(
                f"{error.name} is not installed; RAFT needs torchvision in a version that fits your torch: "
                "pip install torchvision"
            ) from error
        model = raft_large(weights=None)
        state = read_weights(self.path, expected=RAFT_FILE)
        check_fits(state, model.state_dict(), path=self.path, expected=RAFT_FILE)
        model.load_state_dict(state)
        return model.eval().requires_grad_(False).to(self._device)
