"""A video that a film goes on from: read as a stream, and given to the model as its first chunks.

It is shown at the model's size and frame rate. Whole chunks are taken from its end, so that what is new follows its
last frame; what is left over at its beginning is dropped.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff.defaults import Sampling
from bdiff.files import missing, sha256
from bdiff.picture import to_pixels

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image

    from bdiff.models import Autoencoder


@dataclass(frozen=True, kw_only=True, slots=True)
class InitVideo:
    """A video, and what of it a film begins with."""

    path: str
    """Of the file, absolute."""
    sha256: str
    num_chunks: int
    """Chunks of the film that show it."""
    dropped_frames: int
    """Left out at its beginning, at the model's frame rate."""

    def missing(self) -> str | None:
        """What of the file is no longer what it was, in words; None if nothing."""
        return missing(Path(self.path), self.sha256)


def measure_video(path: Path, sampling: Sampling) -> InitVideo:
    """How many chunks a video comes to; it is decoded once for that, since headers are often wrong or missing.

    Raises:
        ValueError: If it cannot be decoded, or is too short for one chunk.
    """
    with _opened(path) as (container, stream):
        frames = sum(1 for _ in _at_rate(container, stream, sampling.fps))
    chunk = sampling.frames_per_chunk
    num_chunks = (frames + 3) // chunk
    if not num_chunks:
        raise ValueError(
            f"{path}: has {frames} frames at {sampling.fps} a second; expected at least {chunk - 3}, the first chunk "
            f"of a film ({(chunk - 3) / sampling.fps:.1f} s)"
        )
    return InitVideo(
        path=str(path.resolve()),
        sha256=sha256(path),
        num_chunks=num_chunks,
        dropped_frames=frames - (num_chunks * chunk - 3),
    )


def told(video: InitVideo, sampling: Sampling) -> str:
    """What is taken of a video and what is dropped, in one line."""
    frames = video.num_chunks * sampling.frames_per_chunk - 3
    dropped = "nothing is dropped"
    if video.dropped_frames:
        seconds = video.dropped_frames / sampling.fps
        dropped = f"{video.dropped_frames} frames ({seconds:.1f} s) at its beginning are dropped"
    chunks = "chunk" if video.num_chunks == 1 else f"{video.num_chunks} chunks"
    return f"{video.path} gives the first {chunks} ({frames / sampling.fps:.1f} s); {dropped}"


class GivenChunks(Mapping[int, Tensor]):
    """Latents of a video's chunks, encoded when they are asked for: one chunk of pixels is held at a time.

    Asked for in order, the video is decoded once.

    Args:
        video: What is to be read.
        vae: Encodes it as one stream.
        sampling: Size, frame rate and chunks.
    """

    def __init__(self, video: InitVideo, vae: "Autoencoder", sampling: Sampling) -> None:
        self._video, self._vae, self._sampling = video, vae, sampling
        self._stream: Iterator[Tensor] = iter(())
        self._next = video.num_chunks

    def __getitem__(self, index: int) -> Float[Tensor, "1 c t h w"]:
        if index not in self:
            raise KeyError(index)
        if index < self._next:
            self._stream, self._next = self._encoded(), 0
        latents = next(islice(self._stream, index - self._next, None))
        self._next = index + 1
        return latents

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self._video.num_chunks

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._video.num_chunks))

    def __len__(self) -> int:
        return self._video.num_chunks

    @torch.no_grad()
    def _encoded(self) -> Iterator[Tensor]:
        sampling, state = self._sampling, None
        size = {"height": sampling.height, "width": sampling.width}
        with _opened(Path(self._video.path)) as (container, stream):
            frames = islice(_at_rate(container, stream, sampling.fps), self._video.dropped_frames, None)
            shape = stream.sample_aspect_ratio
            for index in range(self._video.num_chunks):
                count = sampling.frames_per_chunk - (3 if index == 0 else 0)
                pixels = [to_pixels(_upright(frame, shape), **size) for frame in islice(frames, count)]
                if len(pixels) < count:
                    raise ValueError(
                        f"{self._video.path} has changed: it has fewer frames than when it was opened first"
                    )
                video = torch.stack(pixels, dim=1)[None].to(self._vae.device)
                latents, state = self._vae.encode(video, state)
                yield latents


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """The file and its video; errors of the library become ValueErrors that name it."""
    import av
    from av.stream import Disposition

    if not path.is_file():
        reason = "is a directory" if path.is_dir() else "no such file or directory"
        raise ValueError(f"{path}: cannot read the video: {reason}")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not container.streams or container.format.name == "tty":  # text is read as teletype art
                raise ValueError(f"{path}: not a video that can be read; give an mp4, a webm or the like")
            if not videos:
                raise ValueError(f"{path}: has no video stream, only {container.format.long_name or 'other data'}")
            videos[0].thread_type = "AUTO"
            yield container, videos[0]
    except av.error.FFmpegError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{path}: not a video that can be read: {reason}") from None


def _at_rate(container: "InputContainer", stream: "VideoStream", fps: int) -> "Iterator[VideoFrame]":
    """What is on the screen in the middle of each frame of a player that shows ``fps`` a second."""
    number, origin, held = 0, Fraction(0), None
    for start, end, frame in _timed(container, stream):
        if held is None:
            origin = start
        while held is not None and origin + Fraction(2 * number + 1, 2 * fps) < start:
            yield held
            number += 1
        held, until = frame, end
    while held is not None and origin + Fraction(2 * number + 1, 2 * fps) < until:
        yield held
        number += 1


def _timed(container: "InputContainer", stream: "VideoStream") -> "Iterator[tuple[Fraction, Fraction, VideoFrame]]":
    """When each frame is seen, from and until, in seconds; a frame without a time follows the one before."""
    usual = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    expected: Fraction | None = None
    for frame in container.decode(stream):
        base = frame.time_base or stream.time_base or usual
        start = frame.pts * base if frame.pts is not None else expected or Fraction(0)
        expected = start + (frame.duration * base if frame.duration else usual)
        yield start, expected, frame


def _upright(frame: "VideoFrame", shape: Fraction | None) -> "Image":
    """A frame as a player shows it: turned, and with square pixels."""
    image = frame.to_image()
    if shape and shape != 1:
        image = image.resize((max(1, round(image.width * shape)), image.height))
    turns = round(frame.rotation / 90) % 4
    return image.rotate(90 * turns, expand=True) if turns else image
