"""One's own videos as training data: cut into takes, and encoded into the same shards as rendered stories.

A take is so many chunks in a row, each with the caption of its middle; its first frame is compressed in space alone, as
that of a film. What is left of a video after its last whole take is not used.
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
"""How frames are picked: shards that were made otherwise are made anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConfig:
    """Where videos are, and how they are cut."""

    source: Path
    """A manifest of LV-Bench (.jsonl), beside whose videos it lies; a folder of videos, each with its captions in a
    .json or .txt of its name; or a folder of WebDataset shards, tar files of such pairs."""
    fps: int = 8
    """Frames a second to train on."""
    height: int = 64
    """Of the pictures: they are scaled to cover it, and cropped around the middle."""
    width: int = 64
    """The same."""
    latent_frames: int = 5
    """Of a chunk, four frames each; the first chunk has 3 frames fewer."""

    def __post_init__(self) -> None:
        if self.height % 16 or self.width % 16 or min(self.height, self.width, self.fps, self.latent_frames) < 1:
            raise ValueError(
                f"height is {self.height}, width {self.width}, fps {self.fps}, latent_frames {self.latent_frames}; "
                "expected sides that 16 divides (8 pixels a latent, 2 latents a token) and positive numbers"
            )

    def chunk_frames(self, num_chunks: int) -> list[int]:
        """Frames of each chunk of a take."""
        length = 4 * self.latent_frames
        return [length - 3, *[length] * (num_chunks - 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """Part of a video; what a rendered story is, but for the truth."""

    pixels: UInt8[Tensor, "3 t h w"]
    captions: tuple[str, ...]
    """One a chunk."""
    chunk_frames: tuple[int, ...]

    @property
    def frames(self) -> Float[Tensor, "3 t h w"]:
        """RGB in [-1, 1]."""
        return self.pixels.float().div_(127.5).sub_(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSplit:
    """Videos to train on, and others to look at while training."""

    root: Path
    train: tuple[ManifestEntry, ...]
    held_out: tuple[ManifestEntry, ...]


def read_videos(source: Path) -> VideoSplit:
    """The videos of a manifest or a folder, four fifths of them for training (`Manifest.split`).

    Raises:
        FileNotFoundError: If there is no such thing, a video of the manifest is missing, or one has no captions.
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


def read_takes(
    root: Path,
    entry: ManifestEntry,
    config: VideoConfig,
    *,
    num_chunks: int,
    on_short: Callable[[str], None] = logger.warning,
) -> Iterator[Take]:
    """The takes of a video, one after the other.

    Args:
        root: The folder that its name begins in.
        entry: The video.
        config: How it is cut.
        num_chunks: Chunks of a take.
        on_short: Told of a video that is too short for one.
    """
    lengths = config.chunk_frames(num_chunks)
    frames: list[Tensor] = []
    start = 0
    for frame in _frames(root / entry.video, config):
        frames.append(frame)
        if len(frames) == sum(lengths):
            captions = _captions(entry, start, lengths, config.fps)
            yield Take(pixels=torch.stack(frames, dim=1), captions=captions, chunk_frames=tuple(lengths))
            start += len(frames)
            frames = []
    if start == 0:
        has = f"{entry.video} has {len(frames)} frames at {config.fps} fps"
        on_short(f"{has}; a take of {num_chunks} chunks needs {sum(lengths)}")


def settle_short(short: Sequence[str], entries: Sequence[ManifestEntry]) -> None:
    """Name the videos that are too short, as `read_takes` told of them.

    Raises:
        ValueError: If all are.
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
    """Encode the takes of videos that ``folder`` does not hold yet, a shard for each video.

    Args:
        vae: Encodes the frames.
        root: The folder that the names of videos begin in.
        entries: The videos.
        config: How they are cut.
        folder: Where the shards lie.
        num_chunks: Chunks of a take.

    Returns:
        The shards, in order; none for a video without a whole take.

    Raises:
        ValueError: If no video is long enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, short, weights = [], [], fingerprint(vae)
    for entry in entries:
        facts = {**asdict(config), "source": None, "num_chunks": num_chunks, "vae": weights, "sampling": _SAMPLING}
        shard = folder / f"{Path(entry.video).stem}-{_digest(root, entry, facts)}.safetensors"
        if not shard.exists():
            takes = list(read_takes(root, entry, config, num_chunks=num_chunks, on_short=short.append))
            if not takes:
                continue
            write_shard([_encoded(vae, take) for take in takes], [take.captions for take in takes], shard)
        shards.append(shard)
    settle_short(short, entries)
    return shards


@torch.no_grad()
def _encoded(vae: CausalVAE, take: Take) -> Float[Tensor, "t c h w"]:
    """Chunk after chunk, so that a long take needs no more memory than a chunk."""
    state, parts = None, []
    for chunk in take.pixels.split(list(take.chunk_frames), dim=1):
        latents, state = vae.encode(chunk[None].float().div_(127.5).sub_(1), state)
        parts.append(latents[0].transpose(0, 1))
    return torch.cat(parts)


def _frames(path: Path, config: VideoConfig) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """Frames at the wanted rate, as a player shows them."""

    def warn(problem: str) -> None:
        logger.warning("%s: %s", path, problem)

    file = VideoFile.probe(path, member_opener(path))
    held: tuple[ShownFrame, Tensor] | None = None
    for shown in file.shown(config.fps, on_problem=warn):
        if held is None or shown.frame is not held[0].frame:
            held = shown, _cropped(shown, config)
        yield held[1]


def _cropped(shown: ShownFrame, config: VideoConfig) -> UInt8[Tensor, "3 h w"]:
    """Scaled to cover the picture, and cropped around the middle."""
    scale = max(config.height / shown.height, config.width / shown.width)
    height = max(config.height, round(shown.height * scale))
    width = max(config.width, round(shown.width * scale))
    pixels = torch.from_numpy(shown.rgb(height=height, width=width, interpolation="AREA"))
    top, left = (height - config.height) // 2, (width - config.width) // 2
    return pixels[top : top + config.height, left : left + config.width].permute(2, 0, 1).contiguous()


def _captions(entry: ManifestEntry, start: int, lengths: Sequence[int], fps: int) -> tuple[str, ...]:
    """The caption at the middle of each chunk; a caption holds until the next one begins."""
    found, at = [], start
    for length in lengths:
        middle = (at + length / 2) / fps
        begun = [chunk for chunk in entry.chunks if chunk.start <= middle]
        found.append((begun[-1] if begun else entry.chunks[0]).caption)
        at += length
    return tuple(found)


def _digest(root: Path, entry: ManifestEntry, facts: dict[str, Any]) -> str:
    """A name that changes with whatever the shard depends on."""
    video = root / entry.video
    known = {**facts, "entry": asdict(entry), "bytes": video.stat().st_size if video.exists() else None}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
