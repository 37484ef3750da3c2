"""The videos that the arguments of a command name."""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vde_metrics.video.names import printable

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif")
"""Suffixes of videos in a folder. A file that is named itself may have any suffix."""
SAVED = ".json"
"""Suffix of saved reports, which are read instead of measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """One video, or the file of a saved report."""

    path: Path
    """Path of the file."""
    name: str
    """Name in reports: the file name, with as many folders as it needs to differ from the others."""
    group: str
    """The argument that named it."""

    @property
    def is_saved(self) -> bool:
        """Whether this is a saved report."""
        return self.path.suffix.lower() == SAVED


def select_videos(arguments: Sequence[str]) -> list[Selected]:
    """The videos of all arguments: files, videos in folders and their subfolders, and files that match patterns.

    The videos of a folder or pattern are in the order of their names. Files and folders in a folder are left out if
    their names begin with a dot.

    Raises:
        FileNotFoundError: if a folder holds no video, or a pattern matches nothing.
    """
    found = [(argument, path) for argument in arguments for path in _paths(argument)]
    names = distinct_names([path for _, path in found])
    return [Selected(path=path, name=name, group=argument) for (argument, path), name in zip(found, names, strict=True)]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Names of files. Different files with the same name get as many folders in front as they need to differ."""
    return [printable(_name(path, {other for other in paths if other.name == path.name})) for path in paths]


def group_labels(arguments: Iterable[str]) -> dict[str, str]:
    """A label for every argument: the last part of its path, or the whole argument if these are not distinct."""
    arguments = list(dict.fromkeys(arguments))
    short = [Path(argument).name or argument for argument in arguments]
    labels = short if len(set(short)) == len(short) else arguments
    return {argument: printable(label) for argument, label in zip(arguments, labels, strict=True)}


def _paths(argument: str) -> list[Path]:
    if not argument:
        raise FileNotFoundError("the name of a video is empty; '.' is the current folder")
    path = Path(argument)
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if _is_video(file, path))
        if not inside:
            raise FileNotFoundError(f"{argument}: no videos in this folder (looked for {', '.join(SUFFIXES)})")
        return inside
    if glob.has_magic(argument) and not path.exists():
        matched = sorted(Path(match) for match in glob.glob(argument, recursive=True) if Path(match).is_file())
        if not matched:
            raise FileNotFoundError(f"{argument}: no file matches this pattern")
        return matched
    return [path]


def _is_video(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in SUFFIXES and file.is_file()


def _name(path: Path, namesakes: set[Path]) -> str:
    if len(namesakes) == 1:
        return path.name
    for count in range(2, len(path.parts) + 1):
        ends = {other.parts[-count:] for other in namesakes}
        if len(ends) == len(namesakes):
            return "/".join(path.parts[-count:])
    return str(path)
