"""How far an ablation is and how long it will take: a bar on a terminal, lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bdiff.files.whole import write_whole

_EVERY = 2.0
"""Seconds between looks at how far the trainings are."""


class Clock:
    """Time that a call may take.

    Args:
        minutes: From now on; None: no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.time() + 60 * minutes

    def over(self) -> bool:
        """Whether it has passed; the same in every process."""
        return self._end is not None and time.time() >= self._end


class FractionFile:
    """Says in a file how much of a training is done, so that another process can show it.

    Args:
        folder: Of the training.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._told = folder / "fraction", 0.0

    def tell(self, fraction: float) -> None:
        """Write it, but not more often than it is looked at."""
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            write_whole(self._file, f"{fraction:.6f}")

    def read(self) -> float:
        """What was written last; 0 if nothing was."""
        try:
            return float(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0


@contextmanager
def stage_bar(name: str, total: int, *, say: Callable[[str], None]) -> Iterator[Callable[[float, str], None]]:
    """A bar of a stage with the time left; ``update(done, what)`` moves it, from any thread.

    Args:
        name: Of the stage.
        total: Of ``done``.
        say: Where lines go if there is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, what: say(f"{name}: {done:.3g}/{total}, {what}") if what else None
        return
    columns = (
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[dim]{task.description}"),
    )
    # the usual half minute holds no training and few films
    with Progress(*columns, console=console, speed_estimate_period=3600.0) as bar:
        task = bar.add_task("", total=total, count=f"0/{total}")

        def update(done: float, what: str) -> None:
            told = {"description": what} if what else {}
            bar.update(task, completed=done, count=f"{done:.4g}/{total}", **told)

        yield update


@contextmanager
def watched_files(
    files: list[FractionFile], *, done: Callable[[], int], update: Callable[[float, str], None]
) -> Iterator[None]:
    """Meanwhile, move a bar by what trainings in other processes say in their files.

    Args:
        files: Of all trainings of the stage.
        done: How many are over; their files say nothing any more.
        update: Of the bar.
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
