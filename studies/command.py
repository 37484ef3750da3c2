"""How a study is run: like a command of `bdiff`, but from a checkout."""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from vde_metrics.command_line import run

STUDIES = ("ablation", "hour", "memory_cost", "metric_cost", "metric_sensitivity", "training_step")
"""Names of all studies."""


def study(name: str) -> click.Command:
    """The command of ``python -m studies.NAME``."""
    command = import_module(f"studies.{name}.__main__").command
    assert isinstance(command, click.Command)
    return command


def run_study(command: click.Command, module: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command of ``python -m MODULE``; what a user can get wrong ends as one line and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(command, given, name=f"python -m {module}"))
