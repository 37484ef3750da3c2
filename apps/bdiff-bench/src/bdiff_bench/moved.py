"""Commands that became studies: each of them says for one version where it is now."""

from typing import Any

import click

STUDIES = {
    "ablation": "ablation",
    "kv": "memory_cost",
    "meter": "metric_cost",
    "sensitivity": "metric_sensitivity",
    "step": "training_step",
    "endurance": "hour",
}
"""Studies by the name of the command that they were."""


class Moved(click.Command):
    """A hidden command that does nothing but say what to run instead.

    Args:
        name: The old name.
        instead: The command line to run.
    """

    def __init__(self, name: str, instead: str) -> None:
        super().__init__(
            name,
            hidden=True,
            help=f"Moved: run `{instead}` from a checkout.",
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
        self._instead = instead

    def invoke(self, ctx: click.Context) -> Any:
        """Raise the error that names the command line."""
        raise click.ClickException(f"bdiff bench {self.name} has moved; from a checkout, run {self._instead}")


def moved_commands() -> list[Moved]:
    """All of them."""
    return [Moved(name, f"python -m studies.{study}") for name, study in STUDIES.items()]


def refuse_ablation(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Callback of `bdiff bench page --ablation`, which is a study's page now."""
    if value is not None:
        raise click.ClickException(
            "bdiff bench page --ablation has moved; from a checkout, run "
            "python -m studies.ablation.write_page PAGE --title TITLE --summary FILE"
        )
