"""Frames from files and iterables, one at a time."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer


Frames = UInt8[Tensor, "t h w 3"] | UInt8[np.ndarray, "t h w 3"] | Float[Tensor, "*one 3 t h w"]
"""RGB frames, 0 to 255; or the pixels of a generated video in [-1, 1], which become what a writer would write."""


MISSING_TOLERANCE = 2
"""So many frames fewer than the header promises are no cause for alarm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFile:
    """A video on disk; `frames` decodes it as a stream."""

    path: Path
    fps: float | None
    source: dict[str, str]
    """Codec, pixel format, container and encoder: compression changes what the metrics see."""
    announced_frames: int = 0
    """How many frames the header promises; 0 where it says nothing."""

    @classmethod
    def probe(cls, path: Path) -> "VideoFile":
        """Read the header. Raises FileNotFoundError, or ValueError where the file is no readable video."""
        with _open(path) as container:
            stream = container.streams.video[0]
            source = {
                "codec": stream.codec_context.name,
                "pixel_format": stream.codec_context.pix_fmt or "unknown",
                "container": container.format.name,
            }
            encoder = stream.metadata.get("encoder") or container.metadata.get("encoder")
            if encoder:
                source["encoder"] = encoder
            fps = float(stream.average_rate) if stream.average_rate else None
            announced = stream.frames
        return cls(path=path, fps=fps, source=source, announced_frames=announced)

    def count_packets(self) -> int | None:
        """Number of packets: that of the frames, as a rule, and found without decoding them.

        None where it is sure to be another: packets are broken or not to be shown, or the header promises more.
        """
        count = 0
        with _open(self.path) as container:
            for packet in container.demux(video=0):
                if packet.is_corrupt or packet.is_discard:
                    return None
                count += packet.size > 0
        return count if count and self.announced_frames in (0, count) else None

    def count_frames(self) -> int:
        """Number of frames, by decoding: the header's number is often missing or wrong.

        Warns of a file that was cut off or is damaged: packets cannot be decoded, or the header promises clearly more.
        """
        count = damaged = hidden = 0
        with _open(self.path) as container:
            for packet in container.demux(video=0):
                hidden += packet.is_discard
                frames = _decoded(packet)
                count, damaged = (count, damaged + 1) if frames is None else (count + len(frames), damaged)
        promised = self.announced_frames - hidden
        if count and (damaged or count < promised - MISSING_TOLERANCE):
            promise = (
                f"the header promises {promised} frames, but only {count}" if promised > count else f"{count} frames"
            )
            warnings.warn(
                f"{promise} can be decoded; the file is cut off or damaged, and the rest is measured",
                RuntimeWarning,
                stacklevel=2,
            )
        return count

    def frames(self) -> Iterator[UInt8[Tensor, "h w 3"]]:
        """RGB frames in order, turned as a player would show them; alpha is left out, 10 bits become 8.

        What cannot be decoded is left out, as in `count_frames`.
        """
        with _open(self.path) as container:
            for packet in container.demux(video=0):
                for frame in _decoded(packet) or ():
                    pixels = frame.to_ndarray(format="rgb24")
                    turns = round(frame.rotation / 90) % 4
                    yield torch.from_numpy(np.rot90(pixels, turns).copy() if turns else pixels)


def _decoded(packet: "Packet") -> "list[VideoFrame] | None":
    """The frames that a packet completes; None if it is damaged.

    Decoding frame by frame in threads (``thread_type`` AUTO) would lose frames around damage, as many as there are
    threads: figures must not depend on the machine. A decoder's own threads and those of slices do not.
    """
    import av

    try:
        return packet.decode()
    except av.error.InvalidDataError:
        return None


@contextmanager
def _open(path: Path) -> "Iterator[InputContainer]":
    """Open a container that has a video stream; errors of the library become ValueErrors that name the file."""
    import av

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file; expected a video file")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video or container.format.name == "tty":  # text files decode as teletype art
                raise ValueError(f"{path}: has no video stream")
            if container.streams.video[0].codec_context is None:
                raise ValueError(f"{path}: cannot be decoded as video (unknown codec)")
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: cannot be decoded as video ({error.strerror})") from error


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
