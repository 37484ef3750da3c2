"""Commands that other distributions add to `bdiff`: entry points of the group ``bdiff.commands``."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

GROUP = "bdiff.commands"
"""Group of the entry points: the name of a command, and the `click.Command`."""
OURS: Mapping[str, str] = {"train": "bdiff-train", "bench": "bdiff-bench"}
"""Commands of this project, and the distribution that brings each."""


class AddOn(click.Command):
    """A command that is not imported before it is run; its line in the help is the summary of its distribution."""

    def __init__(self, found: EntryPoint) -> None:
        summary = found.dist.metadata["Summary"] if found.dist is not None else None
        summary = f"{summary.rstrip('.')}." if summary else f"See bdiff {found.name} --help."
        super().__init__(found.name, short_help=summary)
        self._found = found

    def load(self) -> click.Command:
        """The command itself.

        Raises:
            click.ClickException: If it is no command, or cannot be imported.
        """
        named = f"bdiff {self.name} ({self._found.value})"
        try:
            command = self._found.load()
        except (ImportError, AttributeError, SyntaxError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise click.ClickException(f"{named} cannot be imported: {error}") from error
        if not isinstance(command, click.Command):
            raise click.ClickException(f"{named} is {command!r}; expected a click.Command")
        return command


class Missing(click.Command):
    """A command of a distribution that is not installed: whatever follows it, the answer says how to install it."""

    def __init__(self, name: str, distribution: str) -> None:
        super().__init__(name, short_help=f"Not installed: pip install {distribution}", add_help_option=False)
        self.context_settings = {
            "ignore_unknown_options": True,
            "allow_extra_args": True,
            "allow_interspersed_args": False,
        }
        self._distribution = distribution

    def invoke(self, ctx: click.Context) -> Any:
        """Raise the error that says what to install."""
        raise click.ClickException(f"bdiff {self.name} is not installed; pip install {self._distribution}")


@cache
def _add_ons() -> dict[str, click.Command]:
    """Commands by name: those that are installed, and those of this project that could be."""
    missing: dict[str, click.Command] = {name: Missing(name, distribution) for name, distribution in OURS.items()}
    return missing | {found.name: AddOn(found) for found in entry_points(group=GROUP)}


class Commands(click.Group):
    """Commands of its own, then those of `GROUP`; its own cannot be replaced."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names: its own in the order in which they were added, then the others by name."""
        own = list(self.commands)
        return [*own, *sorted(name for name in _add_ons() if name not in own)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; one of another distribution in short form while help is shown."""
        return self.commands.get(cmd_name) or _add_ons().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is to run, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, AddOn) else command, rest
