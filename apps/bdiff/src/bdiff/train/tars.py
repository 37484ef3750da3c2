"""WebDataset shards: tar files of videos and their captions, read without unpacking.

A sample is a video and a list of captions of the same name, ``000017.mp4`` and ``000017.json`` or ``000017.txt``. In a
manifest it is called ``shard-000.tar/000017.mp4``.
"""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from lvbench import CaptionedChunk, Manifest, ManifestEntry, read_captions

_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")


def read_tars(folder: Path) -> Manifest:
    """A manifest of all samples in the tar files of a folder.

    Raises:
        FileNotFoundError: If a video has no captions, or there are no videos.
        ValueError: If captions or a tar file are not valid.
    """
    entries = []
    for shard in sorted(folder.glob("*.tar")):
        with _opened(shard) as archive:
            members = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}
            for name in sorted(name for name in members if PurePosixPath(name).suffix.lower() in _SUFFIXES):
                beside = [str(PurePosixPath(name).with_suffix(suffix)) for suffix in (".json", ".txt")]
                listed = next((members[one] for one in beside if one in members), None)
                if listed is None:
                    raise FileNotFoundError(f"{shard}: neither {beside[0]} nor {beside[1]}, the captions of {name}")
                chunks = _captions(archive, listed, shard)
                entries.append(ManifestEntry(video=f"{shard.name}/{name}", chunks=chunks))
    if not entries:
        raise FileNotFoundError(f"{folder}: no videos in its tar files; expected {', '.join(_SUFFIXES)}")
    return Manifest(entries=tuple(entries))


@contextmanager
def opened_video(path: Path) -> Iterator[str | IO[bytes]]:
    """What a decoder opens: the path of a file, or the file inside a tar."""
    shard = next((parent for parent in path.parents if parent.suffix == ".tar" and parent.is_file()), None)
    if shard is None:
        yield str(path)
        return
    name = path.relative_to(shard).as_posix()
    with _opened(shard) as archive:
        found = next((member for member in archive if member.name.removeprefix("./") == name), None)
        if found is None:
            raise FileNotFoundError(f"{shard}: holds no {name}")
        yield archive.extractfile(found)


def _captions(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path) -> tuple[CaptionedChunk, ...]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PurePosixPath(member.name).name
        file.write_bytes(archive.extractfile(member).read())
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
        raise ValueError(f"{shard}: no tar file ({error})") from error
