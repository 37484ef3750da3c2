"""WebDataset shards: tar files of videos and their captions, read without unpacking.

A sample is a video and a file of captions with the same name: ``000017.mp4``, and ``000017.json``, ``000017.txt``,
``000017.srt`` or ``000017.vtt``. A manifest calls it ``shard-000.tar/000017.mp4``. Names that begin with a dot are
ignored.
"""

import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from lvbench import CaptionedChunk, Manifest, ManifestEntry, read_captions

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")
"""Suffixes of videos."""
_CAPTIONS = (".json", ".txt", ".srt", ".vtt")


def read_tars(folder: Path) -> Manifest:
    """List all samples in the tar files of a folder.

    Raises:
        FileNotFoundError: If a video has no captions, or there are no videos.
        ValueError: If captions or a tar file are not valid.
    """
    entries = []
    for shard in sorted(path for path in folder.glob("*.tar") if not path.name.startswith(".")):
        with _opened(shard) as archive:
            members = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}
            for name in sorted(name for name in members if _is_video(PurePosixPath(name))):
                beside = [str(PurePosixPath(name).with_suffix(suffix)) for suffix in _CAPTIONS]
                listed = next((members[one] for one in beside if one in members), None)
                if listed is None:
                    raise FileNotFoundError(f"{shard}: neither {' nor '.join(beside)}, the captions of {name}")
                chunks = _captions(archive, listed, shard)
                entries.append(ManifestEntry(video=f"{shard.name}/{name}", chunks=chunks))
    if not entries:
        raise FileNotFoundError(f"{folder}: no videos in its tar files; expected {', '.join(SUFFIXES)}")
    return Manifest(entries=tuple(entries))


def _is_video(name: PurePosixPath) -> bool:
    """Whether a name is that of a video; operating systems give names with a leading dot to files of their own."""
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)


def member_opener(path: Path) -> Callable[[], AbstractContextManager[IO[bytes]]] | None:
    """Return a function that opens a video inside a tar file; None for a video that is a file of its own."""
    shard = next((parent for parent in path.parents if parent.suffix == ".tar" and parent.is_file()), None)
    return None if shard is None else partial(_member, shard, path.relative_to(shard).as_posix())


@contextmanager
def _member(shard: Path, name: str) -> Iterator[IO[bytes]]:
    with _opened(shard) as archive:
        found = next((member for member in archive if member.name.removeprefix("./") == name), None)
        opened = None if found is None else archive.extractfile(found)
        if opened is None:
            raise FileNotFoundError(f"{shard}: holds no file {name}")
        yield opened


def _captions(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path) -> tuple[CaptionedChunk, ...]:
    opened = archive.extractfile(member)
    if opened is None:
        raise FileNotFoundError(f"{shard}: {member.name} is not a file")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PurePosixPath(member.name).name
        file.write_bytes(opened.read())
        try:
            return read_captions(file)
        except ValueError as error:  # names the file
            raise ValueError(str(error).replace(str(file), f"{shard}/{member.name}")) from error


@contextmanager
def _opened(shard: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(shard, "r:") as archive:
            yield archive
    except tarfile.ReadError as error:
        raise ValueError(f"{shard}: not a tar file ({error})") from error
