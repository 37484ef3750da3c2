"""LV-Bench manifests: which videos there are, what they show and when, and which of them are for evaluation."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from lvbench.captions import CaptionedChunk, TwiceError, check_order, chunk_of, decoder, read_captions
from lvbench.texts import check_characters, read_text, shown

ObjectClass = Literal["humans", "animals", "environment"]
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
    """What is to be seen, in order, chunk by chunk."""
    source: str | None = None
    """Data set that the video comes from: DanceTrack, GOT-10k, HD-VILA-100M or ShareGPT4V."""
    object_class: ObjectClass | None = None
    """What the video is about."""

    def boundaries(self, num_frames: int, fps: float | int) -> list[int]:
        """Where chunks begin, and the number of frames: what ``vde_metrics.measure`` takes as ``chunk_frames``.

        A chunk lasts until the next one begins, the last one until the end of the video.

        Raises:
            ValueError: if the video is too short for a chunk to have a frame.
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
    """A manifest's videos in two parts."""

    train: tuple[ManifestEntry, ...]
    """Four of five."""
    evaluation: tuple[ManifestEntry, ...]
    """The rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The videos of a benchmark.

    On disk it is a file of lines, each the JSON of one video:
    ``{"video": "a.mp4", "source": "GOT-10k", "object_class": "animals", "chunks": [{"start": 0, "end": 3,
    "caption": "A swan glides"}, ...]}``. A chunk may also be a string that ends with its range, as the paper prints
    captions: ``"A swan glides (00s - 03s)"``. ``source`` and ``object_class`` may be left out. An ``end`` of null is
    that of the video.
    """

    entries: tuple[ManifestEntry, ...]
    """In the order of the file; no video twice."""

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
            FileNotFoundError: if there is no such file.
            ValueError: naming the file and the line that is wrong.
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
        """Write the manifest; the file appears whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        partial.write_text("".join(_line(entry) + "\n" for entry in self.entries), encoding="utf-8")
        os.replace(partial, path)

    def split(self, seed: int = 0) -> Split:
        """Four fifths for training and one fifth for evaluation, by the seed and the names of the videos.

        The order of the manifest does not matter. The paper's own division is not published: name the seed with
        your figures.
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
    """A manifest of the data set's release: videos below ``Video_datasets``, and their caption lists.

    The captions of ``Video_datasets/GOT-10k/0001.mp4`` are looked for in ``0001.json``, ``0001.txt``, ``0001.srt`` and
    ``0001.vtt``, beside the video or at the same place below ``captions``; a text without ranges is the caption of the
    whole video. The first folder below ``Video_datasets`` is the source. Files and folders whose names begin with a
    point are left out.

    Args:
        folder: what was downloaded from the hub, or the folder of videos itself.
        captions: where the caption lists are, if not beside the videos.

    Raises:
        FileNotFoundError: if there are no videos, or a video has no captions: says which file was looked for.
        ValueError: naming the file and the line of captions that are wrong.
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
    """Whether a name is that of a video; systems and tools begin names of their own files with a point."""
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)


def _beside(video: Path) -> Path:
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
    kind = _optional(found, "object_class", where)
    if kind is not None and kind not in get_args(ObjectClass):
        raise ValueError(f"{where}: object_class is {shown(kind)}; expected one of {', '.join(get_args(ObjectClass))}")
    return ManifestEntry(
        video=_video(found.get("video"), where),
        chunks=_chunks(found.get("chunks"), where),
        source=source,
        object_class=kind,
    )


def _optional(found: Mapping[str, Any], key: str, where: str) -> str | None:
    value = found.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{where}: {key} is {shown(value)}; expected a word, or leave it out")
    if value is not None:
        check_characters(value, where=where, name=key)
    return value


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
