"""Which videos the arguments of a command mean."""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif")
"""What counts as a video in a folder; a file that is named may have any suffix."""
SAVED = ".json"
"""A report that was saved is read instead of measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """One video, or the file of a saved report."""

    path: Path
    """Where it lies."""
    name: str
    """How reports call it: its file name, with as many folders before it as tell it from the others."""
    group: str
    """The argument that it came from."""

    @property
    def is_saved(self) -> bool:
        """Whether this is a saved report."""
        return self.path.suffix.lower() == SAVED


def select_videos(arguments: Sequence[str]) -> list[Selected]:
    """Files as given; the videos in folders and below, and those that patterns match, in the order of their names.

    Files and folders inside a folder whose names begin with a dot are left out: what systems and editors leave behind.

    Raises:
        FileNotFoundError: if a folder holds no video, or a pattern matches nothing.
    """
    found = [(argument, path) for argument in arguments for path in _paths(argument)]
    names = distinct_names([path for _, path in found])
    return [Selected(path=path, name=name, group=argument) for (argument, path), name in zip(found, names, strict=True)]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names; where different files share one, with folders before it until they differ."""
    return [printable(_name(path, {other for other in paths if other.name == path.name})) for path in paths]


def printable(name: str) -> str:
    """A name for reports: characters that cannot be printed, or are no text at all, as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


def group_labels(arguments: Iterable[str]) -> dict[str, str]:
    """A short label for every argument: the last part of the path, or the whole where those are not distinct."""
    arguments = list(dict.fromkeys(arguments))
    short = [Path(argument).name or argument for argument in arguments]
    labels = short if len(set(short)) == len(short) else arguments
    return {argument: printable(label) for argument, label in zip(arguments, labels, strict=True)}


def _paths(argument: str) -> list[Path]:
    if not argument:
        raise FileNotFoundError("the name of a video is empty; '.' is the folder you are in")
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
