"""How far a bench is and how long it will take: a bar on a terminal, lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bdiff.files import write_whole

_EVERY = 2.0
"""Seconds between two looks at how far other processes are."""


class TimeLimit:
    """The time that a call may take.

    Args:
        minutes: Minutes from now on; None: no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.time() + 60 * minutes

    def over(self) -> bool:
        """Whether the time has passed; the same in every process."""
        return self._end is not None and time.time() >= self._end


class FractionFile:
    """A file that holds how much of a job is done, so that another process can show it.

    Args:
        folder: The job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._written = folder / "fraction", 0.0

    def write(self, fraction: float) -> None:
        """Write the fraction, but not more often than it is looked at."""
        if time.monotonic() - self._written >= _EVERY:
            self._written = time.monotonic()
            write_whole(self._file, f"{fraction:.6f}")

    def read(self) -> float:
        """The fraction written last; 0 if there is none."""
        try:
            return float(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0

    def remove(self) -> None:
        """Remove the file: the job is over or stopped."""
        self._file.unlink(missing_ok=True)


@contextmanager
def progress_bar(name: str, total: int, *, say: Callable[[str], None]) -> Iterator[Callable[[float, str], None]]:
    """Show a bar with the time left; ``update(done, what)`` moves it, from any thread.

    Args:
        name: What is being done.
        total: The value of ``done`` at the end.
        say: Where lines go if there is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, what: say(f"{name}: {done:.3g}/{total} done, {what}") if what else None
        return
    columns = (
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[dim]{task.description}"),
    )
    # an hour, because the default of half a minute holds no training and few videos
    with Progress(*columns, console=console, speed_estimate_period=3600.0) as bar:
        task = bar.add_task("", total=total, count=f"0/{total} done")

        def update(done: float, what: str) -> None:
            bar.update(task, completed=done, description=what or None, count=f"{done:.4g}/{total} done")

        yield update


@contextmanager
def watched_files(
    files: Sequence[FractionFile], *, done: Callable[[], int], update: Callable[[float, str], None]
) -> Iterator[None]:
    """Move a bar by what jobs in other processes write, while the block runs.

    Args:
        files: The files of all jobs.
        done: Gives how many jobs are over; their files no longer count.
        update: Moves the bar.
    """
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_EVERY):
            update(done() + sum(file.read() for file in files), "")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
