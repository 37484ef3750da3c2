"""A given video that the made one goes on from: read as a stream, and given to the model as its first chunks.

It is read as a player shows it, at the model's size and frame rate. Whole chunks are taken from its end, so that what
is new follows its last frame; what is left over at its beginning is dropped.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff.defaults import Sampling
from bdiff.files import missing, sha256
from bdiff.run.given_picture import to_pixels
from vde_metrics import VideoFile

if TYPE_CHECKING:
    from bdiff.run.models import Autoencoder


@dataclass(frozen=True, kw_only=True, slots=True)
class InitVideo:
    """A given video, and the part of it that the made one begins with."""

    path: str
    """Absolute path of the file."""
    sha256: str
    num_chunks: int
    """Chunks that show it."""
    dropped_frames: int
    """Left out at its beginning, at the model's frame rate."""

    def missing(self) -> str | None:
        """What of the file is no longer what it was, in words; None if nothing."""
        return missing(Path(self.path), self.sha256)


def measure_video(path: Path, sampling: Sampling) -> InitVideo:
    """How many chunks a video comes to; it is decoded once for that, since headers are often wrong or missing.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it cannot be decoded, or is too short for one chunk.
    """
    problems: list[str] = []
    frames = sum(1 for _ in VideoFile.probe(path).shown(sampling.fps, on_problem=problems.append))
    chunk = sampling.frames_per_chunk
    first = sampling.first_frames
    num_chunks = (frames - first + chunk) // chunk
    if num_chunks < 1:
        raise ValueError(
            f"{path}: has {frames} frames at {sampling.fps} a second; expected at least {first}, the first chunk "
            f"of a video ({first / sampling.fps:.1f} s)" + "".join(f"; {problem}" for problem in problems)
        )
    for problem in problems:
        warnings.warn(f"{path}: {problem}", RuntimeWarning, stacklevel=2)
    return InitVideo(
        path=str(path.resolve()),
        sha256=sha256(path),
        num_chunks=num_chunks,
        dropped_frames=frames - sampling.num_frames(num_chunks),
    )


def describe_video(video: InitVideo, sampling: Sampling) -> str:
    """What is taken of a video and what is dropped, in one line."""
    frames = sampling.num_frames(video.num_chunks)
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
        from PIL import Image

        sampling, state = self._sampling, None
        size = {"height": sampling.height, "width": sampling.width}
        shown = VideoFile.probe(Path(self._video.path)).shown(sampling.fps, on_problem=_said_before)
        frames = islice(shown, self._video.dropped_frames, None)
        for index in range(self._video.num_chunks):
            count = sampling.frames_per_chunk if index else sampling.first_frames
            pixels = [to_pixels(Image.fromarray(frame.rgb()), **size) for frame in islice(frames, count)]
            if len(pixels) < count:
                raise ValueError(f"{self._video.path} has changed: it has fewer frames than when it was opened first")
            video = torch.stack(pixels, dim=1)[None].to(self._vae.device)
            latents, state = self._vae.encode(video, state)
            yield latents


def _said_before(problem: str) -> None:
    """`measure_video` warned of it."""
