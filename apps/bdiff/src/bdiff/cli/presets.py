"""The command that lists presets."""

import json
from dataclasses import asdict

import click

from bdiff.presets import PRESETS, preset_lines


@click.command("presets")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def presets_command(as_json: bool) -> None:
    """List the published checkpoints whose sampling is known, for --preset of `bdiff sample` and `bdiff plan`."""
    if as_json:
        click.echo(json.dumps({name: asdict(preset) for name, preset in PRESETS.items()}, indent=2))
    else:
        click.echo("\n".join(preset_lines()))
