"""The folder of a training: it holds nothing else, and one process at a time trains there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "training.lock"


def check_free(out: Path, weights: str) -> None:
    """Refuse a folder that holds something other than a training that can go on.

    Args:
        out: The folder; it need not exist.
        weights: Name in the folder of what the training will write.

    Raises:
        ValueError: If it holds such weights without a checkpoint, or a run of `bdiff sample`.
    """
    if (out / "state" / "script.json").exists():
        raise ValueError(f"{out} holds a run of bdiff sample; give another --out")
    if (out / weights).exists() and not any(out.glob("checkpoint*")):
        raise ValueError(f"{out} holds {weights} and no checkpoint to go on from; give another --out")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from training in a folder.

    Raises:
        ValueError: If another process trains there.
    """
    file = out / _LOCK
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process trains in {out}; wait for it, stop it, or give another --out") from None
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
