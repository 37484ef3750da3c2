"""Where the frames of a measurement come from: a file, or frames in memory."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import UInt8
from torch import Tensor

from vde_metrics.video.file import VideoFile
from vde_metrics.video.frames import written_frames
from vde_metrics.video.names import printable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSource:
    """Frames in memory, or from any iterable."""

    given: Iterable[Any]
    """The frames as the caller gave them."""
    length: int | None
    """Number of frames; None: that of ``len(given)``."""
    fps: float | None
    """Frames per second, if known."""
    name: str = "frames"
    """Name in reports."""

    @property
    def notes(self) -> dict[str, str]:
        """Nothing is known about the encoding."""
        return {}

    def num_frames(self) -> int:
        """Number of frames: ``length``, or that of ``len(given)``."""
        if self.length is not None:
            return self.length
        if not isinstance(self.given, Sized):
            raise ValueError(f"the length of a {type(self.given).__name__} is unknown; give num_frames or chunk_frames")
        return len(self.given)

    def frames(self) -> Iterable[Any]:
        """The frames, not yet checked."""
        return self.given


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSource:
    """A video file."""

    file: VideoFile
    """The file."""

    @property
    def fps(self) -> float | None:
        """Frames per second, if the header says so."""
        return self.file.fps

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return printable(self.file.path.name)

    @property
    def notes(self) -> dict[str, str]:
        """Codec, pixel format, container and encoder."""
        return self.file.source

    def num_frames(self) -> int:
        """Number of frames, found by decoding the file once."""
        count = self.file.count_frames()
        if not count:
            raise ValueError(f"{self.file.path}: has no frames that can be decoded")
        return count

    def frames(self) -> Iterator[UInt8[Tensor, "h w 3"]]:
        """The decoded frames in order."""
        return self.file.frames()


def open_source(video: Any, *, num_frames: int | None, fps: float | None) -> FrameSource | FileSource:
    """The source of a path, an iterable of frames or a tensor of pixels.

    Args:
        video: as in `measure`.
        num_frames: number of frames of an iterable that has no ``len``.
        fps: frames per second of an iterable.
    """
    if isinstance(video, str | PathLike):
        if num_frames is not None or fps is not None:
            raise ValueError("num_frames and fps describe an iterable of frames; a file has its own")
        return FileSource(file=VideoFile.probe(Path(video)))
    if not isinstance(video, Iterable):
        raise TypeError(f"video is a {type(video).__name__}; expected a path or an iterable of frames")
    return FrameSource(given=written_frames(video), length=num_frames, fps=fps)


def with_count(source: FrameSource | FileSource, run: Callable[[int], T]) -> T:
    """Call ``run`` with the number of frames, and decode a file only to count its frames if that is necessary.

    Counting frames by decoding takes half as long as a measurement. So ``run`` is first called with the number of
    packets. It raises ValueError if the video has another number of frames. Then the frames are counted by decoding,
    and ``run`` is called again.
    """
    guess = source.file.count_packets() if isinstance(source, FileSource) else None
    if guess is None:
        return run(source.num_frames())
    try:
        return run(guess)
    except ValueError:
        count = source.num_frames()
        if count == guess:
            raise
    return run(count)
