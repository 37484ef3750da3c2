"""Commands that train: `bdiff train ...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bdiff import defaults
from bdiff.terminal import Positive, given, make_folder, one_line_errors

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path)


@click.group("train")
def train_group() -> None:
    """Train the autoencoder, then the transformer, on rendered stories.

    A run that is stopped goes on where it was when it is started again with the same --out.
    """


def _training_options(command: "Callable") -> "Callable":
    """What both trainers take; an option left out is the trainer's own default."""
    for option in (
        click.option("--learning-rate", type=Positive()),
        click.option("--richness", type=click.IntRange(0, 2), help="Stories: 0 flat, 1 landmarks, 2 light and camera."),
        click.option("--num-stories", type=click.IntRange(1), help="Stories to train on."),
        click.option("--seed", type=click.IntRange(0)),
        click.option("--max-steps", type=click.IntRange(1), help="Stop after so many steps."),
        click.option("--minutes", type=Positive(), help="Stop after so much training, resumed parts together."),
        click.option("--out", type=_PATH, required=True, help="Folder of weights, checkpoint, log and curve."),
    ):
        command = option(command)
    return command


@train_group.command("vae")
@_training_options
@click.option("--batch-size", type=click.IntRange(1), help="Clips a step.")
def train_vae_command(**options: Any) -> None:
    """Train the autoencoder; ends with vae.safetensors."""
    with one_line_errors():
        from bdiff.train.vae import VAETrainConfig, train_vae

        config = VAETrainConfig(**given(options))
        make_folder(config.out)
    _report(train_vae(config).evaluation, config.out / "vae.safetensors")


@train_group.command("model")
@_training_options
@click.option("--vae", type=_PATH, required=True, help="What `bdiff train vae` wrote.")
@click.option("--stories", type=_PATH, required=True, help="Folder of encoded stories; those missing are made.")
@click.option("--start-from", type=_PATH, help="Transformer folder whose weights to begin with.")
@click.option("--policy", type=click.Choice(defaults.POLICIES[:-1]), help="Which past chunks a target sees.")
@click.option("--bfloat16", is_flag=True, help="Matrix products in bfloat16, for CPUs that have them.")
def train_model_command(**options: Any) -> None:
    """Train the transformer; ends with transformer/."""
    with one_line_errors():
        from bdiff.train.model import ModelTrainConfig, train_model
        from bdiff_core import load_vae

        config = ModelTrainConfig(**given(options))
        load_vae(config.vae)  # an unreadable file is to be found out now
        make_folder(config.out)
    _report(train_model(config).evaluation, config.out / "transformer")


def _report(figures: dict[str, float], written: Path) -> None:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    click.echo(f"{written}{': ' if shown else ''}{shown}", err=True)
