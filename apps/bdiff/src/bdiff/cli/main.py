"""The `bdiff` command: reads options, calls what does the work, reports. Heavy imports happen inside commands."""

import sys
from collections.abc import Sequence

import click

from bdiff import __version__
from bdiff.cli.add_ons import Commands
from bdiff.cli.checkpoints import convert_command, inspect_command
from bdiff.cli.presets import presets_command
from bdiff.cli.runs import RUN_COMMANDS
from bdiff.cli.sample import plan_command, sample_command
from vde_metrics.command_line import run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: whatever a user can get wrong ends as one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_command(cli, given or ["--help"], name="bdiff", traceback=given[:1] == ["--traceback"]))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bdiff")
@click.option("--traceback", is_flag=True, expose_value=False, help="Show where in the code an error comes from.")
def cli() -> None:
    """Minute-long videos from storyboards, by block diffusion with a memory."""


for _command in (sample_command, plan_command, *RUN_COMMANDS, convert_command, inspect_command, presets_command):
    cli.add_command(_command)
