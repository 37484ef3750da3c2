"""The command line of `bdiff`: what the commands of other distributions share with its own."""

from bdiff.cli.runs import MEMORY_LIMIT_OPTION, check_device
from bdiff.cli.settings import Renamed, setting_options
from bdiff.cli.terminal import (
    PATH,
    WORKERS,
    NamedPath,
    Positive,
    given,
    num_chunks,
    output_folder,
    say,
    show_figures,
)
from bdiff.idle import refuse_idle
from vde_metrics.command_line import run_command

__all__ = [
    "MEMORY_LIMIT_OPTION",
    "PATH",
    "WORKERS",
    "NamedPath",
    "Positive",
    "Renamed",
    "check_device",
    "given",
    "num_chunks",
    "output_folder",
    "refuse_idle",
    "run_command",
    "say",
    "setting_options",
    "show_figures",
]
