"""What commands share: option types, folders to write to, a progress bar."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vde_metrics.command_line import one_line

if TYPE_CHECKING:
    from bdiff.run import Progress


class Positive(click.ParamType):
    """A finite number above 0, and not above a limit."""

    name = "number"

    def __init__(self, most: float = math.inf) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        if not (0 < number <= self._most and math.isfinite(number)):
            self.fail(
                f"{value} is not in the range 0<x{'' if self._most == math.inf else f'<={self._most:g}'}.", param, ctx
            )
        return number


class Name(click.ParamType):
    """A name that is not empty, of a file, a folder or a repository."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name."""
        text = os.fspath(value)
        if not text.strip():
            self.fail("the name is empty; '.' is the folder you are in.", param, ctx)
        if "\0" in text:
            self.fail("the name holds a zero byte.", param, ctx)
        return text


class NamedPath(click.Path):
    """A path that is not empty: an empty one would stand for the folder one is in."""

    def __init__(self, *, exists: bool = False) -> None:
        super().__init__(exists=exists, path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """The path."""
        return super().convert(NAME.convert(value, param, ctx), param, ctx)


NAME = Name()
"""Type of what may be a repository instead of a path."""
PATH = NamedPath()
"""Type of every other option and argument that names a file or a folder."""


def say(text: str) -> None:
    """A line on stderr; names of files may hold anything, and are shown with escapes."""
    click.echo(one_line(text), err=True)


def num_chunks(least: int) -> click.IntRange:
    """Type of a length in chunks: at most about a day."""
    return click.IntRange(least, 40_000)


WORKERS = click.IntRange(1, 1024)
"""Type of a number of processes."""


def free_folder(out: Path, *, overwrite: bool) -> Path:
    """The folder itself, or with -2, -3, ... if it holds something."""
    folder, number = out, 1
    while not overwrite and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file; --out names a folder")
        number += 1
        folder = beside(out, f"-{number}")
    return folder


def beside(folder: Path, ending: str) -> Path:
    """The folder of the same name with an ending; ``.`` and ``..`` are called as what they stand for is."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}{ending}")


def make_folder(folder: Path) -> None:
    """Makes a folder and checks that it can be written to."""
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the name {str(folder)!r} is not UTF-8; give another") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".bdiff"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {(error.strerror or str(error)).lower()}") from None


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Makes a folder for what the block writes; folders that were made and stayed empty are removed after an error."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    try:
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # it holds something
                place.rmdir()
        raise


@contextmanager
def progress_bar(total: int) -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal; elsewhere a line a chunk."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda state: say(
            f"{state.done}/{state.total} done, {_clock(state.seconds_left)} left, "
            f"memory {state.memory_bytes / 1e6:.1f} MB: {state.prompt}"
        )
        return
    columns = (
        MofNCompleteColumn(),
        TextColumn("done"),
        BarColumn(),
        TextColumn("{task.fields[left]} left, memory {task.fields[memory]} MB  [dim]{task.description}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=total, left="?", memory="0.0")
        yield lambda state: bar.update(
            task,
            completed=state.done,
            description=state.prompt[:40].replace("[", "\\["),
            left=_clock(state.seconds_left),
            memory=f"{state.memory_bytes / 1e6:.1f}",
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; those left out are what is called's own defaults."""
    return {name: value for name, value in options.items() if value is not None}


def show_figures(figures: Mapping[str, Any], *, page: Path | None = None) -> None:
    """What a bench measured, as JSON on stdout; on stderr, where a page of it is."""
    if page is not None:
        say(f"{page} shows the figures")
    click.echo(json.dumps(figures, indent=2))
