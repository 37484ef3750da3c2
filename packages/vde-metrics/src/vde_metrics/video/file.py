"""Video files, read as a stream of frames."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from vde_metrics.video.containers import Decoding, Opener, opened
from vde_metrics.video.player import Clock, ShownFrame, at_rate, pixel_aspect, usual_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFile:
    """A video file, read as a stream: one frame at a time, upright, with square pixels, as a player shows it.

    The first video stream is read. An attached picture, such as a cover, does not count as one.
    """

    path: Path
    """The file. Its name and suffix do not matter."""
    fps: float | None
    """Frames per second, if the header says so."""
    source: dict[str, str]
    """Codec, pixel format, container and encoder. Compression changes what the metrics measure."""
    announced_frames: int = 0
    """Number of frames in the header; 0 if the header does not say."""
    opener: Opener | None = None
    """Opens the bytes of a video that is not a file of its own."""

    @classmethod
    def probe(cls, path: Path, opener: Opener | None = None) -> "VideoFile":
        """Read the header.

        Args:
            path: The file. Messages name it.
            opener: Opens the bytes of a video that is not a file of its own, but a member of an archive for example.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read.
            ValueError: If it is not a video that can be read.
        """
        with opened(path, opener) as (container, stream):
            source = {
                "codec": stream.codec_context.name,
                "pixel_format": stream.codec_context.pix_fmt or "unknown",
                "container": container.format.name,
            }
            encoder = stream.metadata.get("encoder") or container.metadata.get("encoder")
            if encoder:
                source["encoder"] = encoder
            aspect = pixel_aspect(stream)
            if aspect != 1:
                source["pixel_aspect"] = f"{aspect.numerator}:{aspect.denominator}"
            fps = float(stream.average_rate) if stream.average_rate else None
            announced = stream.frames
        return cls(path=path, fps=fps, source=source, announced_frames=announced, opener=opener)

    def count_packets(self) -> int | None:
        """Number of packets, found without decoding. It is usually the number of frames.

        Returns:
            None if the number of frames is certainly another: if packets are damaged or hidden, or if the header gives
            another number.
        """
        count = 0
        with opened(self.path, self.opener) as (container, stream):
            decoding = Decoding(container, stream)
            for packet in decoding.packets():
                if packet.is_corrupt or packet.is_discard:
                    return None
                count += packet.size > 0
        if decoding.num_damaged:
            return None
        return count if count and self.announced_frames in (0, count) else None

    def count_frames(self) -> int:
        """Number of frames, found by decoding all of them. The number in the header is often missing or wrong.

        Warns if the file is cut off or damaged: if packets cannot be decoded, or if the header gives clearly more
        frames.
        """
        with opened(self.path, self.opener) as (container, stream):
            decoding = Decoding(container, stream)
            count = sum(1 for _ in decoding)
            problem = decoding.problem()
        if problem:
            warnings.warn(f"{problem}, and the rest is measured", RuntimeWarning, stacklevel=2)
        return count

    def frames(self) -> Iterator[UInt8[Tensor, "h w 3"]]:
        """Every stored frame once, in order, whatever its time stamp.

        What cannot be decoded is left out, as in `count_frames`.
        """
        with opened(self.path, self.opener) as (container, stream):
            aspect = pixel_aspect(stream)
            for frame in Decoding(container, stream):
                yield torch.from_numpy(ShownFrame(frame, aspect).rgb())

    def shown(
        self, fps: float | int | Fraction, *, on_problem: Callable[[str], None] | None = None
    ) -> Iterator[ShownFrame]:
        """Sample the video at a fixed rate: the frame that is shown in the middle of every 1 / ``fps`` seconds.

        Time counts from the first frame. A frame is shown until the next one that can be decoded, for up to ten
        minutes. A frame follows the one before at once after a longer gap, and where the time stamps go back by more
        than ten seconds or for more than 16 frames. A frame that comes late by less is left out.

        Args:
            fps: Frames per second.
            on_problem: Called at the end with a text about damage and wrong time stamps. None: a warning is given.

        Raises:
            ValueError: If the file cannot be decoded, or is longer than a day by its time stamps.
        """
        with opened(self.path, self.opener) as (container, stream):
            aspect, decoding, clock = pixel_aspect(stream), Decoding(container, stream), Clock(usual_duration(stream))
            try:
                for frame in at_rate(decoding, clock, Fraction(fps)):
                    yield ShownFrame(frame, aspect)
            except OverflowError as error:
                raise ValueError(f"{self.path}: {error}") from error
        problem = "; ".join(filter(None, (decoding.problem(), clock.problem())))
        if problem and on_problem is not None:
            on_problem(problem)
        elif problem:
            warnings.warn(problem, RuntimeWarning, stacklevel=2)
