"""Where the frames of a measurement come from: a file, or the caller."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import UInt8
from torch import Tensor

from vde_metrics.selection import printable
from vde_metrics.video import VideoFile, written_frames

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSource:
    """Frames handed over by the caller."""

    given: Iterable[Any]
    length: int | None
    fps: float | None
    name: str = "frames"

    @property
    def notes(self) -> dict[str, str]:
        """Nothing is known of how they came about."""
        return {}

    def num_frames(self) -> int:
        """Their number, announced or by ``len``."""
        if self.length is not None:
            return self.length
        if not isinstance(self.given, Sized):
            raise ValueError(f"the length of a {type(self.given).__name__} is unknown; give num_frames or chunk_frames")
        return len(self.given)

    def frames(self) -> Iterable[Any]:
        """As given."""
        return self.given


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSource:
    """A video file."""

    file: VideoFile

    @property
    def fps(self) -> float | None:
        """Frames per second, if the header says."""
        return self.file.fps

    @property
    def name(self) -> str:
        """Of the file, without its folder."""
        return printable(self.file.path.name)

    @property
    def notes(self) -> dict[str, str]:
        """Codec, pixel format, container and encoder."""
        return self.file.source

    def num_frames(self) -> int:
        """Their number, by decoding the file once."""
        count = self.file.count_frames()
        if not count:
            raise ValueError(f"{self.file.path}: has no frames that can be decoded")
        return count

    def frames(self) -> Iterator[UInt8[Tensor, "h w 3"]]:
        """Decoded in order."""
        return self.file.frames()


def open_source(video: Any, *, num_frames: int | None, fps: float | None) -> FrameSource | FileSource:
    """Where the frames of ``video`` come from."""
    if isinstance(video, str | PathLike):
        if num_frames is not None or fps is not None:
            raise ValueError("num_frames and fps describe an iterable of frames; a file has its own")
        return FileSource(file=VideoFile.probe(Path(video)))
    if not isinstance(video, Iterable):
        raise TypeError(f"video is a {type(video).__name__}; expected a path or an iterable of frames")
    return FrameSource(given=written_frames(video), length=num_frames, fps=fps)


def with_count(source: FrameSource | FileSource, run: Callable[[int], T]) -> T:
    """What ``run`` makes of the number of frames.

    Decoding a file only to count its frames costs as much as half of a measurement. So the packets are counted, and
    where ``run`` fails with their number, as it must if it meets another number of frames, the file is decoded to count
    them after all.
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
