"""Frames from files and iterables, one at a time."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vde_metrics.containers import Decoding, Opener, opened
from vde_metrics.player import Clock, ShownFrame, at_rate, pixel_aspect, usual_duration

Frames = UInt8[Tensor, "t h w 3"] | UInt8[np.ndarray, "t h w 3"] | Float[Tensor, "*one 3 t h w"]
"""RGB frames, 0 to 255; or the pixels of a generated video in [-1, 1], which become what a writer would write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFile:
    """A video on disk, read as a stream, as a player shows it: upright and with square pixels.

    Of several video streams the first is read; an attached picture (a cover) is none.
    """

    path: Path
    """A file is read whatever it is called."""
    fps: float | None
    source: dict[str, str]
    """Codec, pixel format, container and encoder: compression changes what the metrics see."""
    announced_frames: int = 0
    """How many frames the header promises; 0 where it says nothing."""
    opener: Opener | None = None
    """Gives the bytes, where they are no file of their own."""

    @classmethod
    def probe(cls, path: Path, opener: Opener | None = None) -> "VideoFile":
        """Read the header.

        Args:
            path: Where the video is, and how messages call it.
            opener: Opens its bytes, where it is no file of its own but a member of an archive, say.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read.
            ValueError: If it is no readable video.
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
        """Number of packets: that of the frames, as a rule, and found without decoding them.

        None where it is sure to be another: packets are broken or not to be shown, or the header promises more.
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
        """Number of frames, by decoding: the header's number is often missing or wrong.

        Warns of a file that was cut off or is damaged: packets cannot be decoded, or the header promises clearly more.
        """
        with opened(self.path, self.opener) as (container, stream):
            decoding = Decoding(container, stream)
            count = sum(1 for _ in decoding)
            problem = decoding.problem()
        if problem:
            warnings.warn(f"{problem}, and the rest is measured", RuntimeWarning, stacklevel=2)
        return count

    def frames(self) -> Iterator[UInt8[Tensor, "h w 3"]]:
        """Every stored frame once, in order, whatever its time.

        What cannot be decoded is left out, as in `count_frames`.
        """
        with opened(self.path, self.opener) as (container, stream):
            aspect = pixel_aspect(stream)
            for frame in Decoding(container, stream):
                yield torch.from_numpy(ShownFrame(frame, aspect).rgb())

    def shown(
        self, fps: float | int | Fraction, *, on_problem: Callable[[str], None] | None = None
    ) -> Iterator[ShownFrame]:
        """What is on the screen in the middle of each frame of a player that shows ``fps`` a second.

        Time counts from the first frame. A frame is seen until the next one that can be decoded, but no longer than ten
        minutes: after that, and where time runs back by more than ten seconds or for more than 16 frames, a frame
        follows the one before at once. One that comes a little too late is left out.

        Args:
            fps: Frames a second.
            on_problem: Is told, at the end, of damage and of such time stamps, in words; None: a warning tells of it.

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


def written_frames(video: Any) -> Any:
    """Pixels [3 t h w] or [1 3 t h w] in [-1, 1] as uint8 frames [t h w 3]; anything else as it is."""
    if not isinstance(video, Tensor) or not video.is_floating_point():
        return video
    pixels = video[0] if video.ndim == 5 and video.shape[0] == 1 else video
    if pixels.ndim != 4 or pixels.shape[0] != 3:
        return video  # refused frame by frame
    return ((pixels.detach().float() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0)


def checked_frames(frames: Iterable[Any]) -> Iterator[UInt8[Tensor, "h w 3"]]:
    """Frames as uint8 tensors of one size; numpy arrays are accepted too."""
    size: tuple[int, ...] | None = None
    for index, given in enumerate(frames):
        frame = _as_tensor(given, index)
        if size is None:
            size = tuple(frame.shape)
        elif tuple(frame.shape) != size:
            raise ValueError(f"frame {index} has shape {tuple(frame.shape)}; the frames before it have {size}")
        yield frame


def _as_tensor(given: Any, index: int) -> Tensor:
    if isinstance(given, np.ndarray):
        # torch wants memory that is writable and runs forwards
        given = torch.from_numpy(np.require(given, requirements=["C", "W"]))
    if not isinstance(given, Tensor):
        raise TypeError(f"frame {index} is a {type(given).__name__}; expected a torch tensor or a numpy array")
    if given.dtype != torch.uint8:
        raise TypeError(
            f"frame {index} is {given.dtype}; expected uint8 RGB, 0 to 255. "
            "From pixels x in [-1, 1]: ((x + 1) * 127.5).round().clamp(0, 255).byte()"
        )
    if given.ndim != 3 or given.shape[-1] != 3:
        raise ValueError(f"frame {index} has shape {tuple(given.shape)}; expected (height, width, 3)")
    return given
