"""Consecutive frames, with what several metrics compute from them."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.luminance import luminance
from vde_metrics.protocols import OpticalFlow

LOOK_BACK = 2
"""How many earlier frames a batch remembers."""


class FrameBatch:
    """Some consecutive frames of a video and up to two frames before them.

    Luminance and flow are computed when a metric first asks, and once for all metrics.
    """

    def __init__(
        self, frames: UInt8[Tensor, "t h w 3"], *, start: int = 0, before: UInt8[Tensor, "p h w 3"] | None = None
    ) -> None:
        self.frames = frames
        """RGB, 0 to 255."""
        self.start = start
        """Number of the first frame in the video."""
        self.before = frames[:0] if before is None else before
        """The frames just before, oldest first; none at the start of the video."""
        self._luminance: Tensor | None = None
        self._flows: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def luminance(self) -> Float32[Tensor, "seen h w"]:
        """Luminance, 0 to 255, of the frames before and of these."""
        if self._luminance is None:
            self._luminance = torch.stack([luminance(frame) for frame in (*self.before, *self.frames)])
        return self._luminance

    def flow(self, method: OpticalFlow) -> Float32[Tensor, "pairs h w 2"]:
        """Flow from the frame before to each of these frames; the first frame of a video has none."""
        if method.name not in self._flows:
            self._flows[method.name] = method.flow(torch.cat([self.before[-1:], self.frames]))
        return self._flows[method.name]

    def by_pair(self, values: Float32[Tensor, "pairs k"]) -> Float32[Tensor, "t k"]:
        """One row a frame from one row a pair: NaN for the first frame of a video."""
        missing = len(self) - len(values)
        return torch.cat([values.new_full((missing, values.shape[1]), float("nan")), values])


def frame_batches(frames: Iterable[UInt8[Tensor, "h w 3"]], size: int) -> Iterator[FrameBatch]:
    """Batches of up to ``size`` frames, in order; only one batch is held at a time."""
    start, held = 0, []
    before: Tensor | None = None
    for frame in frames:
        held.append(frame)
        if len(held) == size:
            batch, held = FrameBatch(torch.stack(held), start=start, before=before), []
            yield batch
            start += len(batch)
            before = torch.cat([batch.before, batch.frames[-LOOK_BACK:]])[-LOOK_BACK:].clone()
            del batch
    if held:
        yield FrameBatch(torch.stack(held), start=start, before=before)
