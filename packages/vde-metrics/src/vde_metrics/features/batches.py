"""Batches of consecutive frames, with what several metrics compute from them."""

from collections.abc import Callable, Iterable, Iterator
from threading import Lock

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.models.flow import flow_lengths
from vde_metrics.protocols import Encoder, OpticalFlow
from vde_metrics.video.luminance import luminance

LOOK_BACK = 2
"""How many earlier frames a batch keeps."""


class FrameBatch:
    """Some consecutive frames of a video, and up to two frames before them.

    Luminance, optical flow and embeddings are computed when a metric first asks for them. All metrics share them.
    """

    def __init__(
        self, frames: UInt8[Tensor, "t h w 3"], *, start: int = 0, before: UInt8[Tensor, "p h w 3"] | None = None
    ) -> None:
        self.frames = frames
        """RGB, 0 to 255."""
        self.start = start
        """Index of the first frame in the video."""
        self.before = frames[:0] if before is None else before
        """The frames just before these, oldest first; none at the start of the video."""
        self._found: dict[tuple[str, str], Tensor] = {}
        self._locks: dict[tuple[str, str], Lock] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def luminance(self) -> Float32[Tensor, "seen h w"]:
        """Luminance, 0 to 255, of ``before`` and ``frames``."""
        seen = (*self.before, *self.frames)
        return self._once("luminance", "", lambda: torch.stack([luminance(frame) for frame in seen]))

    def flow(self, method: OpticalFlow) -> Float32[Tensor, "pairs h w 2"]:
        """Optical flow from the previous frame to each of these frames; the first frame of a video has none."""
        return self._once("flow", method.name, lambda: method.flow(torch.cat([self.before[-1:], self.frames])))

    def flow_lengths(self, method: OpticalFlow) -> Float32[Tensor, "pairs h w"]:
        """Length of that flow at every pixel."""
        return self._once("lengths", method.name, lambda: flow_lengths(self.flow(method)))

    def embeddings(self, encoder: Encoder) -> Float32[Tensor, "t d"]:
        """Embeddings of whole frames."""
        return self._once("embeddings", encoder.name, lambda: encoder.encode(list(self.frames)).detach().float().cpu())

    def _once(self, kind: str, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Compute a value for the first metric that asks; other metrics, in other threads, wait for it."""
        with self._locks.setdefault((kind, name), Lock()):
            if (kind, name) not in self._found:
                self._found[kind, name] = make()
            return self._found[kind, name]

    def by_pair(self, values: Float32[Tensor, "pairs k"]) -> Float32[Tensor, "t k"]:
        """Make one row per frame from one row per pair: the first frame of a video gets NaN."""
        missing = len(self) - len(values)
        return torch.cat([values.new_full((missing, values.shape[1]), float("nan")), values])


def frame_batches(frames: Iterable[UInt8[Tensor, "h w 3"]], size: int) -> Iterator[FrameBatch]:
    """Batches of up to ``size`` frames, in order. Only one batch is in memory at a time."""
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
