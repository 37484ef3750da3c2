"""The `vde` command, and what other commands share with it.

It imports click, which the top of the package does not.

Example:
    >>> import click
    >>> from vde_metrics.command_line import run_command
    >>> @click.command()
    ... def greet():
    ...     click.echo("hello")
    >>> run_command(greet, [], name="greet")  # an error of the user would be one line on stderr, and 2
    hello
    0
"""

from vde_metrics.command_line.boundary import one_line, run_command
from vde_metrics.command_line.command import drift_command, main
from vde_metrics.command_line.options import model_weights

__all__ = ["drift_command", "main", "model_weights", "one_line", "run_command"]
