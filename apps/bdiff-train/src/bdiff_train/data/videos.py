"""Your own videos as training data: cut into excerpts, and encoded into the same shards as rendered stories.

An excerpt is a number of consecutive chunks. Each chunk has the caption of its middle. As in a whole video, the first
frame of an excerpt is compressed in space alone. What remains of a video after its last whole excerpt is not used.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bdiff_core import CausalVAE
from bdiff_train.data.stories import fingerprint, write_shard
from bdiff_train.data.tars import SUFFIXES, member_opener, read_tars
from lvbench import Manifest, ManifestEntry, read_release
from vde_metrics import ShownFrame, VideoFile

logger = logging.getLogger(__name__)

_SAMPLING = "as shown in the middle of a frame's time"
"""How frames are picked. It is part of the names of shards, so shards with frames picked otherwise are made anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConfig:
    """Where videos are, and how they are cut."""

    source: Path
    """A manifest of LV-Bench (.jsonl) in the folder that its videos are in; or a folder of videos, each with a file of
    captions of the same name; or a folder of WebDataset shards, which are tar files of such pairs."""
    fps: int = 8
    """Frames a second to train on."""
    height: int = 64
    """Height of frames in pixels; they are scaled to cover height and width, and cropped around the middle."""
    width: int = 64
    """Width of frames in pixels."""
    latent_frames: int = 5
    """Latent frames of a chunk, four frames each; the first chunk has 3 frames fewer."""

    def __post_init__(self) -> None:
        if self.height % 16 or self.width % 16 or min(self.height, self.width, self.fps, self.latent_frames) < 1:
            raise ValueError(
                f"height is {self.height}, width {self.width}, fps {self.fps}, latent_frames {self.latent_frames}; "
                "expected sides that 16 divides (8 pixels a latent, 2 latents a token) and positive numbers"
            )

    def chunk_frames(self, num_chunks: int) -> list[int]:
        """Return the number of frames of each chunk of an excerpt."""
        length = 4 * self.latent_frames
        return [length - 3, *[length] * (num_chunks - 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """Part of a video; it has what a rendered story has, except for the truth."""

    pixels: UInt8[Tensor, "3 t h w"]
    captions: tuple[str, ...]
    """The caption of each chunk."""
    chunk_frames: tuple[int, ...]
    """Number of frames of each chunk."""

    @property
    def frames(self) -> Float[Tensor, "3 t h w"]:
        """All frames, RGB in [-1, 1]."""
        return self.pixels.float().div_(127.5).sub_(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSplit:
    """Videos to train on, and others to evaluate on."""

    root: Path
    """Folder that the names of videos are relative to."""
    train: tuple[ManifestEntry, ...]
    held_out: tuple[ManifestEntry, ...]


def read_videos(source: Path) -> VideoSplit:
    """List the videos of a manifest or a folder, four fifths of them for training (`Manifest.split`).

    Raises:
        FileNotFoundError: If there is no such manifest or folder, a video of the manifest is missing, or a video has
            no captions.
        ValueError: If captions are not valid, or there are fewer than three videos.
    """
    if source.is_dir() and any(source.glob("[!.]*.tar")):
        manifest, root = read_tars(source), source
    elif source.is_dir():
        manifest = read_release(source)
        root = source / "Video_datasets" if (source / "Video_datasets").is_dir() else source
    else:
        manifest, root = _manifest(source), source.parent
    split = manifest.split()
    if not split.evaluation:
        raise ValueError(f"{source}: {len(manifest.entries)} videos; expected at least 3, one of which is held out")
    return VideoSplit(root=root, train=split.train, held_out=split.evaluation)


def _manifest(source: Path) -> Manifest:
    if source.suffix.lower() in SUFFIXES:
        raise ValueError(f"{source} is a video; expected a folder of videos and captions, or a manifest (.jsonl)")
    manifest = Manifest.load(source)
    for entry in manifest.entries:
        video = source.parent / entry.video
        if not video.is_file() and member_opener(video) is None:
            raise FileNotFoundError(f"{source}: {video}: no such file")
    return manifest


def read_excerpts(
    root: Path,
    entry: ManifestEntry,
    config: VideoConfig,
    *,
    num_chunks: int,
    on_short: Callable[[str], None] = logger.warning,
) -> Iterator[Excerpt]:
    """Read the excerpts of a video, one after the other.

    Args:
        root: The folder that the video's name is relative to.
        entry: The video and its captions.
        config: How it is cut.
        num_chunks: Chunks of an excerpt.
        on_short: Called with a message if the video is too short for one excerpt.
    """
    lengths = config.chunk_frames(num_chunks)
    frames: list[Tensor] = []
    start = 0
    for frame in _frames(root / entry.video, config):
        frames.append(frame)
        if len(frames) == sum(lengths):
            captions = _captions(entry, start, lengths, config.fps)
            yield Excerpt(pixels=torch.stack(frames, dim=1), captions=captions, chunk_frames=tuple(lengths))
            start += len(frames)
            frames = []
    if start == 0:
        has = f"{entry.video} has {len(frames)} frames at {config.fps} fps"
        on_short(f"{has}; an excerpt of {num_chunks} chunks needs {sum(lengths)}")


def settle_short(short: Sequence[str], entries: Sequence[ManifestEntry]) -> None:
    """Log a warning for each video that is too short.

    Args:
        short: The messages that `read_excerpts` handed to its ``on_short``.
        entries: All videos that were read.

    Raises:
        ValueError: If all videos are too short.
    """
    if len(short) == len(entries):
        raise ValueError(f"none of {len(entries)} videos is long enough: {short[0]}; give a smaller --chunks-per-story")
    for line in short:
        logger.warning("left out: %s", line)


def prepare_videos(
    vae: CausalVAE,
    root: Path,
    entries: Sequence[ManifestEntry],
    *,
    config: VideoConfig,
    folder: Path,
    num_chunks: int,
) -> list[Path]:
    """Encode the excerpts of videos that ``folder`` does not hold yet, a shard for each video.

    Args:
        vae: The autoencoder.
        root: The folder that the names of videos are relative to.
        entries: The videos and their captions.
        config: How they are cut.
        folder: Folder of the shards.
        num_chunks: Chunks of an excerpt.

    Returns:
        The shards, in order; none for a video without a whole excerpt.

    Raises:
        ValueError: If no video is long enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    short: list[str] = []
    weights = fingerprint(vae)
    for entry in entries:
        facts = {**asdict(config), "source": None, "num_chunks": num_chunks, "vae": weights, "sampling": _SAMPLING}
        shard = folder / f"{Path(entry.video).stem}-{_digest(root, entry, facts)}.safetensors"
        if not shard.exists():
            excerpts = list(read_excerpts(root, entry, config, num_chunks=num_chunks, on_short=short.append))
            if not excerpts:
                continue
            write_shard([_encoded(vae, one) for one in excerpts], [one.captions for one in excerpts], shard)
        shards.append(shard)
    settle_short(short, entries)
    return shards


@torch.no_grad()
def _encoded(vae: CausalVAE, excerpt: Excerpt) -> Float[Tensor, "t c h w"]:
    """Encode an excerpt chunk by chunk, so that a long one needs no more memory than a chunk."""
    state, parts = None, []
    for chunk in excerpt.pixels.split(list(excerpt.chunk_frames), dim=1):
        latents, state = vae.encode(chunk[None].float().div_(127.5).sub_(1), state)
        parts.append(latents[0].transpose(0, 1))
    return torch.cat(parts)


def _frames(path: Path, config: VideoConfig) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """Read frames at the configured rate, as a video player shows them."""

    def warn(problem: str) -> None:
        logger.warning("%s: %s", path, problem)

    file = VideoFile.probe(path, member_opener(path))
    held: tuple[ShownFrame, Tensor] | None = None
    for shown in file.shown(config.fps, on_problem=warn):
        if held is None or shown.frame is not held[0].frame:
            held = shown, _cropped(shown, config)
        yield held[1]


def _cropped(shown: ShownFrame, config: VideoConfig) -> UInt8[Tensor, "3 h w"]:
    """Scale a frame to cover height and width, and crop it around the middle."""
    scale = max(config.height / shown.height, config.width / shown.width)
    height = max(config.height, round(shown.height * scale))
    width = max(config.width, round(shown.width * scale))
    pixels = torch.from_numpy(shown.rgb(height=height, width=width, interpolation="AREA"))
    top, left = (height - config.height) // 2, (width - config.width) // 2
    return pixels[top : top + config.height, left : left + config.width].permute(2, 0, 1).contiguous()


def _captions(entry: ManifestEntry, start: int, lengths: Sequence[int], fps: int) -> tuple[str, ...]:
    """Find the caption at the middle of each chunk; a caption holds until the next one begins."""
    found, at = [], start
    for length in lengths:
        middle = (at + length / 2) / fps
        begun = [chunk for chunk in entry.chunks if chunk.start <= middle]
        found.append((begun[-1] if begun else entry.chunks[0]).caption)
        at += length
    return tuple(found)


def _digest(root: Path, entry: ManifestEntry, facts: dict[str, Any]) -> str:
    """Compute a digest that changes with all that a shard depends on."""
    video = root / entry.video
    known = {**facts, "entry": asdict(entry), "bytes": video.stat().st_size if video.exists() else None}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
