"""What `measure` accepts: metrics, and the models behind metrics."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor


@runtime_checkable
class Metric(Protocol):
    """Scores one chunk of frames (Eq. 16).

    These two members are enough. `measure` then holds the frames of one chunk in memory at a time.
    """

    @property
    def name(self) -> str:
        """The metric's name in reports. Two metrics of one measurement need different names."""
        ...

    def score(self, frames: UInt8[Tensor, "t h w 3"]) -> float:
        """Score of one chunk. Frames are RGB, 0 to 255."""
        ...


@runtime_checkable
class ProtocolMetric(Metric, Protocol):
    """A metric that belongs to one of the two protocols. Other metrics may be measured with either."""

    @property
    def protocol(self) -> str:
        """``paper`` or ``released``."""
        ...


@runtime_checkable
class ThinnedMetric(Metric, Protocol):
    """A metric that uses only every n-th frame of a chunk."""

    @property
    def interval(self) -> int:
        """Distance of the frames that are used."""
        ...


@runtime_checkable
class Named(Protocol):
    """A model or setting with a name. Reports and the cache use the name to tell it from others."""

    @property
    def name(self) -> str:
        """The name. It must change with whatever changes the scores: architecture, size, a digest of the weights."""
        ...


@runtime_checkable
class Given(Named, Protocol):
    """A setting that belongs to one video, such as masks. Reports compare its name; the cache uses its digest too."""

    @property
    def digest(self) -> str:
        """A digest of the content."""
        ...


@runtime_checkable
class OpticalFlow(Named, Protocol):
    """Optical flow between neighbouring frames: `DISFlow`, or your own adapter of a model such as RAFT."""

    def flow(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, "t-1 h w 2"]:
        """Motion of each pixel to the next frame: (right, down) in pixels, on the grid of the earlier frame."""
        ...


@runtime_checkable
class Encoder(Named, Protocol):
    """Embeds pictures (E in Eq. 25)."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    def encode(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n d"]:
        """One embedding per picture, not normalised. Pictures are RGB and may differ in size."""
        ...


@runtime_checkable
class Predictor(Named, Protocol):
    """Predicts an aesthetic score of each frame (A in Eq. 23)."""

    def predict(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, " t"]:
        """One score per frame, in the predictor's own range."""
        ...


@runtime_checkable
class Segmenter(Named, Protocol):
    """Finds the pixels of the subject."""

    def masks(self, frames: UInt8[Tensor, "t h w 3"], *, start: int) -> Bool[Tensor, "t h w"]:
        """One mask per frame, True where the subject is.

        Args:
            frames: RGB, 0 to 255.
            start: index of the first of these frames in the video.
        """
        ...


@runtime_checkable
class Detector(Named, Protocol):
    """Finds the box of the subject."""

    def boxes(self, frames: UInt8[Tensor, "t h w 3"], *, start: int) -> Float[Tensor, "t 4"]:
        """One box per frame: (left, top, right, bottom) in pixels. A row of NaN means that there is no subject.

        Args:
            frames: RGB, 0 to 255.
            start: index of the first of these frames in the video.
        """
        ...
