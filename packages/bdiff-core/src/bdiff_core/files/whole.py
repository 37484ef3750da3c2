"""Files that appear whole or not at all, with the mode that the umask gives."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_NUMBER = re.compile(r"(?:os error |Os \{ code: )(\d+)")  # in error messages of safetensors, new and old


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A temporary name to write a file under; the file gets its own name at the end, and is deleted after an error.

    Its mode is the usual one, whatever the library that writes it sets: safetensors lets only the owner read its files.

    Raises:
        OSError: With the name of the file, if the disk is full or cannot be written.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with named_errors(file):
            partial.touch()
            mode = partial.stat().st_mode
            yield partial
            partial.chmod(mode)
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(tensors: Mapping[str, Tensor], file: Path, *, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole.

    Raises:
        OSError: With the name of the file, if the disk is full or cannot be written.
    """
    with whole_file(file) as partial:
        save_file(dict(tensors), partial, metadata=dict(metadata))


@contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """While a file is written: turn errors of any library into an OSError with the name of the file and the reason."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error
    except RuntimeError as error:  # from torch.save, which loses the error of the disk
        cause = error.__context__
        if not isinstance(cause, OSError):
            if "inline_container" not in str(error):
                raise
            cause = OSError(errno.EIO, "not all of it could be written; the disk may be full")
        raise OSError(cause.errno, cause.strerror or str(cause), str(file)) from error
    except SafetensorError as error:
        number = _NUMBER.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from error
