"""LV-Bench manifests: the videos of a benchmark, their captioned chunks, and the split into training and evaluation."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from lvbench.captions import CaptionedChunk, TwiceError, check_order, chunk_of, decoder, read_captions
from lvbench.texts import check_characters, read_text, shown

ObjectClass = Literal["humans", "animals", "environment"]
OBJECT_CLASSES: tuple[ObjectClass, ...] = ("humans", "animals", "environment")
TRAIN_SHARE = 0.8
VIDEO_FOLDER = "Video_datasets"
"""The folder of videos in the release on Hugging Face."""
SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")
CAPTION_SUFFIXES = (".json", ".txt", ".srt", ".vtt")
KEYS = ("video", "chunks", "source", "object_class")
_DECODER = decoder()


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestEntry:
    """One video of the benchmark."""

    video: str
    """Path of the video below the folder of videos, with forward slashes."""
    chunks: tuple[CaptionedChunk, ...]
    """The captioned chunks, in the order of time."""
    source: str | None = None
    """Name of the data set that the video comes from: DanceTrack, GOT-10k, HD-VILA-100M or ShareGPT4V."""
    object_class: ObjectClass | None = None
    """What the video is about."""

    def boundaries(self, num_frames: int, fps: float | int) -> list[int]:
        """The first frame of each chunk, and at the end the number of frames.

        This is what ``vde_metrics.measure`` takes as ``chunk_frames``. A chunk lasts until the next one begins, and the
        last chunk until the end of the video.

        Args:
            num_frames: Number of frames of the video.
            fps: Frames per second of the video.

        Raises:
            ValueError: If the video is too short for every chunk to have a frame.
        """
        starts = [0, *(round(chunk.start * fps) for chunk in self.chunks[1:]), num_frames]
        for index, (start, end) in enumerate(pairwise(starts)):
            if end <= start:
                raise ValueError(
                    f"{self.video}: chunk {index} would be frames {start} to {end}; the video has {num_frames} frames "
                    f"at {fps:g} fps, too few for its captions"
                )
        return starts


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The videos of a manifest in two parts."""

    train: tuple[ManifestEntry, ...]
    """Four fifths of the videos, for training."""
    evaluation: tuple[ManifestEntry, ...]
    """The other videos, for evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The videos of a benchmark.

    The file has one line of JSON for each video:
    ``{"video": "a.mp4", "source": "GOT-10k", "object_class": "animals", "chunks": [{"start": 0, "end": 3,
    "caption": "A swan glides"}, ...]}``. A chunk may also be a string that ends with its range, as the paper prints
    captions: ``"A swan glides (00s - 03s)"``. ``source`` and ``object_class`` may be left out. An ``end`` of null means
    until the video ends.
    """

    entries: tuple[ManifestEntry, ...]
    """The videos in the order of the file, none of them twice."""

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("the manifest has no videos")
        seen: set[str] = set()
        for entry in self.entries:
            if entry.video in seen:
                raise ValueError(f"the video {entry.video} is in the manifest twice")
            seen.add(entry.video)

    @classmethod
    def load(cls, path: str | Path) -> "Manifest":
        """Read a manifest.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If a line is wrong; the message names the file and the line.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected a manifest, a line of JSON for each video")
        lines = read_text(path).split("\n")  # splitlines would cut captions, too
        entries: list[ManifestEntry] = []
        places: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            entry = _entry(line, where)
            if entry.video in places:
                raise ValueError(f"{where}: {entry.video} is also on line {places[entry.video]}")
            places[entry.video] = number
            entries.append(entry)
        if not entries:
            raise ValueError(f"{path}: is empty; expected a line of JSON for each video")
        return cls(entries=tuple(entries))

    def save(self, path: str | Path) -> None:
        """Write the manifest. A file that exists is replaced only when the new one is complete."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            partial.write_text("".join(_line(entry) + "\n" for entry in self.entries), encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def split(self, seed: int = 0) -> Split:
        """Divide the videos: four fifths for training, one fifth for evaluation.

        The split depends on the seed and on the names of the videos, not on their order in the manifest. The paper does
        not publish its own split, so report the seed with your figures.
        """

        def drawn(entry: ManifestEntry) -> bytes:
            return hashlib.sha256(f"{seed} {entry.video}".encode()).digest()

        ranks = sorted(self.entries, key=drawn)
        chosen = {entry.video for entry in ranks[: round(TRAIN_SHARE * len(ranks))]}
        return Split(
            train=tuple(entry for entry in self.entries if entry.video in chosen),
            evaluation=tuple(entry for entry in self.entries if entry.video not in chosen),
        )


def read_release(folder: str | Path, *, captions: str | Path | None = None) -> Manifest:
    """Make a manifest of the released data set: videos below ``Video_datasets``, and their captions.

    The captions of ``Video_datasets/GOT-10k/0001.mp4`` are looked for in ``0001.json``, ``0001.txt``, ``0001.srt`` and
    ``0001.vtt``, beside the video or at the same place below ``captions``. A text without ranges is the caption of the
    whole video. The first folder below ``Video_datasets`` is the source. Files and folders whose names begin with a dot
    are left out.

    Args:
        folder: The downloaded folder, or the folder of videos itself.
        captions: Folder of the captions, if they are not beside the videos.

    Raises:
        FileNotFoundError: If there are no videos, or if a video has no captions; the message names the file.
        ValueError: If captions are wrong; the message names the file and the line.
    """
    root = Path(folder)
    root = root / VIDEO_FOLDER if (root / VIDEO_FOLDER).is_dir() else root
    videos = sorted(path for path in root.rglob("*") if _is_video(path.relative_to(root)) and path.is_file())
    if not videos:
        raise FileNotFoundError(f"{root}: no videos here; expected those of the release's folder {VIDEO_FOLDER}")
    entries = []
    for video in videos:
        name = video.relative_to(root)
        listed = _beside(Path(captions) / name if captions is not None else video)
        source = name.parts[0] if len(name.parts) > 1 else None
        entries.append(ManifestEntry(video=name.as_posix(), chunks=read_captions(listed), source=source))
    return Manifest(entries=tuple(entries))


def _is_video(name: Path) -> bool:
    """Whether a path is that of a video. Names that begin with a dot belong to files of the system or of tools."""
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)


def _beside(video: Path) -> Path:
    """The file of captions with the name of a video, in the same folder."""
    places = [video.with_suffix(suffix) for suffix in CAPTION_SUFFIXES]
    for place in places:
        if place.is_file():
            return place
    others = ", ".join(place.name for place in places[1:])
    raise FileNotFoundError(f"{places[0]}: no such file, nor {others}; expected the captions of {video.name}")


def _line(entry: ManifestEntry) -> str:
    chunks = [
        {"start": one.start, "end": None if one.end == math.inf else one.end, "caption": one.caption}
        for one in entry.chunks
    ]
    found = {"video": entry.video, "source": entry.source, "object_class": entry.object_class, "chunks": chunks}
    return json.dumps({key: value for key, value in found.items() if value is not None}, ensure_ascii=False)


def _entry(line: str, where: str) -> ManifestEntry:
    try:
        found = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON: {error.msg.lower()} at column {error.colno}") from error
    except TwiceError as error:
        raise ValueError(f"{where}: {error}") from None
    except RecursionError:
        raise ValueError(f"{where}: cannot be read as JSON: its brackets are nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{where}: expected an object with video and chunks, got {shown(line, 20)}")
    if unknown := [key for key in found if key not in KEYS]:
        raise ValueError(f"{where}: unknown field {shown(unknown[0])}; known are {', '.join(KEYS)}")
    source = _optional(found, "source", where)
    return ManifestEntry(
        video=_video(found.get("video"), where),
        chunks=_chunks(found.get("chunks"), where),
        source=source,
        object_class=_object_class(found, where),
    )


def _optional(found: Mapping[str, Any], key: str, where: str) -> str | None:
    value = found.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{where}: {key} is {shown(value)}; expected a word, or leave it out")
    if value is not None:
        check_characters(value, where=where, name=key)
    return value


def _object_class(found: Mapping[str, Any], where: str) -> ObjectClass | None:
    value = _optional(found, "object_class", where)
    kind = next((kind for kind in OBJECT_CLASSES if kind == value), None)
    if value is not None and kind is None:
        raise ValueError(f"{where}: object_class is {shown(value)}; expected one of {', '.join(OBJECT_CLASSES)}")
    return kind


def _video(value: Any, where: str) -> str:
    path = PurePosixPath(value) if isinstance(value, str) and value else None
    if path is None or not path.name or path.is_absolute() or ".." in path.parts or {"\\", "\0"} & set(value):
        raise ValueError(f"{where}: video is {shown(value)}; expected a path below the folder of videos, with / in it")
    check_characters(value, where=where, name="name of the video")
    return path.as_posix()


def _chunks(value: Any, where: str) -> tuple[CaptionedChunk, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: chunks is {shown(value)}; expected a list of start, end and caption")
    found: list[CaptionedChunk] = []
    for number, item in enumerate(value):
        place = f"{where}, chunk {number}"
        found.append(chunk_of(item, where=place))
        check_order(found, where=place)
    return tuple(found)
