"""Errors of reading a checkpoint, as one line that names it."""

import errno
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_DAMAGE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, EOFError, RuntimeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What torch raises for files that are cut off or are not checkpoints."""


@contextmanager
def damage_named(checkpoint: Path) -> Iterator[None]:
    """Turn errors of reading a checkpoint into one line that names it.

    Raises:
        ValueError: If the checkpoint is damaged, or is not one.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except (CheckpointException, *_DAMAGE) as error:
        if _may_be_intact(error):
            raise
        raise ValueError(
            f"{checkpoint} {_damage(error)}; delete it to train from the start, or give another --out"
        ) from None


def _may_be_intact(error: BaseException) -> bool:
    """Whether the file may be intact: it cannot be read now, or memory is short."""
    if isinstance(error, OSError):  # these two come from a file that is cut off: a seek past its end, a missing part
        return error.errno not in (errno.EINVAL, errno.ENOENT)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _damage(error: BaseException) -> str:
    """Say what is wrong with a checkpoint, judging by what torch raised."""
    if isinstance(error, OSError | EOFError | zipfile.BadZipFile) or "zip archive" in str(error):
        return "is cut off"
    return "is damaged, or was not written by this training"
