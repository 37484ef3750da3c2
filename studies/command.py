"""How a study is run: like a command of `bdiff`, but from a checkout."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from bdiff.cli import run_command

STUDIES = ("ablation", "hour", "memory_cost", "metric_cost", "metric_sensitivity", "takes", "training_step")
"""Names of all studies."""

_TINY = "Seconds instead of hours, to see that everything runs; the figures say nothing."


def study(name: str) -> click.Command:
    """The command of ``python -m studies.NAME``."""
    command = import_module(f"studies.{name}.__main__").command
    assert isinstance(command, click.Command)
    return command


def run_study(command: click.Command, module: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command of ``python -m MODULE``; what a user can get wrong ends as one line and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_command(command, given, name=f"python -m {module}"))


def tiny_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--tiny`` to a study."""
    return click.option("--tiny", is_flag=True, help=_TINY)(command)


def refuse_sizes(options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse options beside ``--tiny`` that it sets itself.

    Args:
        options: Values by name; None was not given.
        names: Options that ``--tiny`` sets.

    Raises:
        ValueError: If one of them was given.
    """
    if given := [name for name in names if options.get(name) not in (None, ())]:
        raise ValueError(f"--tiny has sizes of its own: leave out --{given[0].replace('_', '-')}")
