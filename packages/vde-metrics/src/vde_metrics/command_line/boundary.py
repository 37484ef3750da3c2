"""Running a command: an error that a user can cause becomes one line on stderr and exit code 2."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

USER_ERRORS = (ValueError, TypeError, OSError, ImportError, ArithmeticError, RecursionError, MemoryError)
"""Errors that inputs, files and the machine can cause. Any other error is a bug and keeps its traceback."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")
"""Words by which torch reports it in a RuntimeError."""


class _Output:
    """Standard output. If it cannot be written to, the command ends with a line that says so."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if text == "":  # click does this to test a stream, and a full device would refuse it
            return 0
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _output_error(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise _output_error(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run_command(command: click.Command, arguments: Sequence[str], *, name: str, traceback: bool = False) -> int:
    """Run a command and return its exit code.

    An error that a user can cause becomes one line on stderr and exit code 2. A warning becomes one line on stderr.

    Args:
        command: The command.
        arguments: Its arguments, without its own name.
        name: Its name. Lines on stderr begin with it.
        traceback: Raise errors unchanged, to see where they come from.
    """
    try:
        with _streams(name):
            code = _exit_code(command, arguments, name)
            sys.stdout.flush()
            return code
    except click.Abort:
        complain(name, "stopped")
        return 130
    except (click.ClickException, RuntimeError, *USER_ERRORS) as error:
        if traceback or not _is_users(error):
            raise
        complain(name, described(error))
        return 2


def _exit_code(command: click.Command, arguments: Sequence[str], name: str) -> int:
    try:
        code = command.main(list(arguments), prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    return code if isinstance(code, int) else 0


def described(error: BaseException) -> str:
    """The text of an error, in one line."""
    if isinstance(error, click.ClickException):
        return one_line(error.format_message())
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return one_line(f"{place}{error.strerror.lower()}")
    if isinstance(error, MemoryError) or _says_out_of_memory(error):
        return "there is not enough memory for this"
    if isinstance(error, RecursionError):
        return "an input is nested too deeply to be read"
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """The text without line breaks and with escapes in place of other control characters."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


def complain(name: str, text: str) -> None:
    """Write one line to stderr. If stderr cannot be written to, the line is lost."""
    try:
        click.echo(f"{name}: {one_line(text)}", err=True)
    except OSError:
        _discard(sys.stderr, 2)


@contextmanager
def _streams(name: str) -> Iterator[None]:
    """Standard output that accepts any character and reports when it is full; warnings as one line each."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process runs
    if sys.stdout is None:
        raise click.ClickException("standard output is closed; redirect it to a file or to /dev/null")
    given = sys.stdout
    reconfigure = getattr(given, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")

    def show(message: Warning | str, *_: Any) -> None:
        complain(name, f"warning: {message}")

    sys.stdout = _Output(given)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show  # type: ignore[assignment]
            yield
    finally:
        sys.stdout = given
        try:
            given.flush()
        except OSError:
            _discard(given, 1)


def _output_error(error: OSError) -> click.ClickException:
    return click.ClickException(f"standard output cannot be written to: {(error.strerror or str(error)).lower()}")


def _discard(stream: Any, number: int) -> None:
    """Discard what a stream still holds, so that the interpreter does not fail on it at exit."""
    if stream is not None and stream.fileno() == number:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def _is_users(error: BaseException) -> bool:
    """Whether a user can have caused the error."""
    return isinstance(error, (click.ClickException, *USER_ERRORS)) or _says_out_of_memory(error)


def _says_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)
