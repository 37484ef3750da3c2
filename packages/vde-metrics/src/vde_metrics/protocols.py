"""What can be put into a measurement: metrics, and the models that metrics look through."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor


@runtime_checkable
class Metric(Protocol):
    """Scores one chunk of frames (Eq. 16).

    A metric with only these two members works everywhere; `measure` then holds the frames of one chunk at a time.
    """

    @property
    def name(self) -> str:
        """What the metric is called in reports; unique among the metrics of one measurement."""
        ...

    def score(self, frames: UInt8[Tensor, "t h w 3"]) -> float:
        """Score of one chunk. Frames are RGB, 0 to 255."""
        ...


@runtime_checkable
class ProtocolMetric(Metric, Protocol):
    """A metric that one of the two protocols defines; another metric may be measured under either."""

    @property
    def protocol(self) -> str:
        """``paper`` or ``released``."""
        ...


@runtime_checkable
class ThinnedMetric(Metric, Protocol):
    """A metric that looks at every so many-th frame of a chunk only."""

    @property
    def interval(self) -> int:
        """The distance of the frames it looks at."""
        ...


@runtime_checkable
class Named(Protocol):
    """Has a name that tells it from others in reports and in the cache."""

    @property
    def name(self) -> str:
        """Whatever changes the figures belongs in it: architecture, size, a digest of the weights."""
        ...


@runtime_checkable
class Given(Named, Protocol):
    """Belongs to one video, as masks do: reports compare by ``name``, the cache also looks at ``digest``."""

    @property
    def digest(self) -> str:
        """A digest of the content."""
        ...


@runtime_checkable
class OpticalFlow(Named, Protocol):
    """Optical flow between neighbouring frames: `DISFlow`, or RAFT behind ten lines of yours."""

    def flow(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, "t-1 h w 2"]:
        """Where each pixel goes until the next frame: (right, down) in pixels, on the grid of the earlier frame."""
        ...


@runtime_checkable
class Encoder(Named, Protocol):
    """Embeds pictures: the E of Eq. 25."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    def encode(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n d"]:
        """One embedding a picture, not normalised. Pictures are RGB of any size, each its own."""
        ...


@runtime_checkable
class Predictor(Named, Protocol):
    """Judges frames: the learned A of Eq. 23."""

    def predict(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, " t"]:
        """One score a frame, in the predictor's own range."""
        ...


@runtime_checkable
class Segmenter(Named, Protocol):
    """Tells the subject from the background, pixel by pixel."""

    def masks(self, frames: UInt8[Tensor, "t h w 3"], *, start: int) -> Bool[Tensor, "t h w"]:
        """True where the subject is. ``start`` is the number of the first of these frames in the video."""
        ...


@runtime_checkable
class Detector(Named, Protocol):
    """Finds the subject's box."""

    def boxes(self, frames: UInt8[Tensor, "t h w 3"], *, start: int) -> Float[Tensor, "t 4"]:
        """(left, top, right, bottom) in pixels; a row of NaN where a frame shows no subject."""
        ...
