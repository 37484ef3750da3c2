"""Options of commands that are fields of `Sampling`, so that both say the same."""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

import click

from bdiff import defaults
from bdiff.cli.terminal import Positive

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_CHOICES = {
    "noise": defaults.NOISES,
    "mode": defaults.MODES,
    "solver": defaults.SOLVERS,
    "positions": defaults.POSITIONS,
    "prompt_switch": defaults.PROMPT_SWITCHES,
}
_OLD = {"age_bonus": "--seniority"}
"""Old spellings of options; they work, hidden, for one version."""


class Renamed(click.Option):
    """An option that keeps its old spellings for one version; help shows the first, the new one, alone."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option's line in the help."""
        spellings = self.opts
        self.opts = spellings[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = spellings


def setting_options(*names: str, old: Mapping[str, str] = _OLD) -> Decorator:
    """Options of fields of `Sampling`; one that is left out is None, and the model's own setting counts.

    Args:
        names: The fields.
        old: Old spellings by field.
    """
    by_name = {field.name: field for field in fields(defaults.Sampling)}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            command = _option(by_name[name], old.get(name))(command)
        return command

    return decorate


def _option(field: Field[Any], old: str | None) -> Decorator:
    spellings = (f"--{field.name.replace('_', '-')}", *([] if old is None else [old]), field.name)
    help_text = f"{field.metadata['help']} Default: the model's."
    return click.option(*spellings, cls=Renamed, type=_type(field), help=help_text)


def _type(field: Field[Any]) -> Any:
    least, most = field.metadata["least"], field.metadata["most"]
    if field.name in _CHOICES:
        return click.Choice(_CHOICES[field.name])
    if field.type is int:
        return click.IntRange(int(least), None if most is None else int(most))
    if field.type is float:
        return Positive(most) if least is None else click.FloatRange(least, most)
    return str
