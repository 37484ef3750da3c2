"""Commands that train: `bdiff train ...`."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from bdiff.cli import PATH, NamedPath, Positive, given, num_chunks, output_folder, say

RECIPES = (
    "default",
    "base",
    "stage1",
    "stage2",
    "stage3",
    "sink",
    "anchor",
    "block-forcing",
    "self-forcing",
    "block-self-forcing",
    "distill",
)
"""Names of `bdiff_train.transformer.RECIPES`, which takes seconds to import; a test compares."""


class Names(click.ParamType):
    """Names with commas between them; whoever takes them refuses unknown ones."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names."""
        return tuple(name.strip() for name in value.split(","))


@click.group("train")
def train_group() -> None:
    """Train the autoencoder, then the transformer, on rendered stories or on videos.

    A training that was stopped goes on where it was when it is started again with the same --out.
    """


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of both trainers; an option that is left out has the trainer's own default."""
    for option in (
        click.option("--width", type=click.IntRange(16), help="Width of frames of --videos. Default: 64."),
        click.option("--height", type=click.IntRange(16), help="Height of frames of --videos. Default: 64."),
        click.option("--fps", type=click.IntRange(1), help="Frames a second of --videos. Default: 8."),
        click.option(
            "--videos",
            "source",
            type=NamedPath(exists=True),
            help="Train on videos, not on stories: a manifest (.jsonl), or a folder of videos and captions, or of tar "
            "files of both.",
        ),
        click.option("--learning-rate", type=Positive(10), help="Learning rate of AdamW after warm-up."),
        click.option("--richness", type=click.IntRange(0, 2), help="Stories: 0 flat, 1 landmarks, 2 light and camera."),
        click.option(
            "--takes",
            type=Names(),
            help="Stories: kinds of takes, such as story,place,walk. All but story need --richness 2. Default: "
            "story, or those of the recipe.",
        ),
        click.option("--num-stories", type=click.IntRange(1), help="Number of stories of each kind to train on."),
        click.option("--seed", type=click.IntRange(0), help="Seed of weights, batches and noise. Default: 0."),
        click.option("--max-steps", type=click.IntRange(1), help="Stop after this many steps, however long they take."),
        click.option(
            "--minutes",
            type=Positive(),
            help="Stop after this many minutes of training, resumed parts included. Default: the recipe's, or no limit "
            "with --max-steps.",
        ),
        click.option("--out", type=PATH, required=True, help="Folder of weights, checkpoint, log and curve."),
    ):
        command = option(command)
    return command


_latent_frames = click.option(
    "--latent-frames", type=click.IntRange(1, 1000), help="Latent frames of a chunk, four frames each."
)


def _settings(options: dict[str, Any], *, unused: tuple[str, ...] = ()) -> dict[str, Any]:
    """Collect the options that were given, those of videos as one; with --max-steps alone there is no time limit.

    `unused` are options that have no effect beside --videos.
    """
    found = given(options)
    if "max_steps" in found:
        found.setdefault("minutes", math.inf)
    names = ["source", "fps", "height", "width"]
    if "source" in found:
        names.append("latent_frames")  # of stories, too
    of_videos = {name: found.pop(name) for name in names if name in found}
    if not of_videos:
        return found
    if "source" not in of_videos:
        raise ValueError(f"--{next(iter(of_videos))} is a setting of --videos: give both")
    for name in ("richness", "takes", *unused):
        if name in found:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is a setting of rendered stories, and --videos replaces them: leave one out")
    from bdiff_train.data.videos import VideoConfig

    return {**found, "videos": VideoConfig(**of_videos)}


@train_group.command("vae")
@_training_options
@click.option("--batch-size", type=click.IntRange(1), help="Number of clips a step.")
@click.option("--chunks-per-story", type=num_chunks(1), help="Chunks of a story, or of an excerpt of --videos.")
@_latent_frames
def train_vae_command(**options: Any) -> None:
    """Train the autoencoder; it ends with vae.safetensors."""
    from bdiff_train.autoencoder import VAETrainConfig, train_vae
    from bdiff_train.engine.distributed import require_one_process
    from bdiff_train.engine.folder import check_free, locked

    require_one_process("the autoencoder")
    config = VAETrainConfig(**_settings(options))
    check_free(config.out, "vae.safetensors")
    with output_folder(config.out), locked(config.out):
        _report(train_vae(config).evaluation, config.out / "vae.safetensors")


@train_group.command("model")
@_training_options
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    default="default",
    show_default=True,
    help="Settings to start from (functions in bdiff_train/transformer/recipes.py); other options change them.",
)
@click.option("--vae", type=PATH, required=True, help="The autoencoder, as `bdiff train vae` wrote it.")
@click.option("--stories", type=PATH, required=True, help="Folder of encoded stories; missing ones are made.")
@click.option("--start-from", type=PATH, help="Folder of a transformer whose weights to start from.")
@click.option(
    "--policy",
    type=Names(),
    help="Which past chunks a target sees: semantic, rolling, sink, dynamic or none. With commas between them: one is "
    "drawn for each sample, and previews and roll-outs have the first.",
)
@click.option("--chunks-per-story", type=num_chunks(2), help="Chunks of a story, or of an excerpt of --videos.")
@_latent_frames
@click.option("--bfloat16", is_flag=True, default=None, help="Matrix products in bfloat16, for CPUs that have them.")
@click.option("--micro-batches", type=click.IntRange(1), help="Batches a step, accumulated or divided among ranks.")
@click.option("--activation-checkpointing", is_flag=True, default=None, help="Less memory for a third more work.")
@click.option("--tensorboard", is_flag=True, default=None, help="Also write TensorBoard events below --out.")
def train_model_command(recipe: str, **options: Any) -> None:
    """Train the transformer; --out becomes a model that `bdiff sample --model` takes.

    Under torchrun the same command trains in several processes: torchrun --nproc-per-node 2 -m bdiff train model
    --micro-batches 2 ...
    """
    from dataclasses import replace

    from bdiff_core import load_vae
    from bdiff_train.engine.distributed import check_division, is_first
    from bdiff_train.engine.folder import check_free, locked
    from bdiff_train.engine.log import require_tensorboard
    from bdiff_train.transformer import recipes
    from bdiff_train.transformer.train import train_model

    files = recipes.Files(**{name: options.pop(name) for name in ("out", "vae", "stories", "start_from")})
    config = recipes.RECIPES[recipe](files)
    if options["source"] is not None and options["latent_frames"] is None:
        options["latent_frames"] = config.latent_frames
    if options["policy"] is not None:
        options["policy"], *more = options["policy"]
        options["more_policies"] = tuple(more)
    config = replace(config, **_settings(options, unused=("num_stories",)))
    check_division(config.micro_batches)
    if config.tensorboard:
        require_tensorboard()
    check_free(config.out, "transformer")
    load_vae(config.vae)  # a file that cannot be read ends the command before stories are encoded
    with ExitStack() as folders:
        if is_first():
            folders.enter_context(output_folder(config.out))
            folders.enter_context(locked(config.out))
            folders.enter_context(output_folder(config.stories))
        result = train_model(config)
    if is_first():
        _report(result.evaluation, config.out / "transformer")


def _report(figures: dict[str, float], written: Path) -> None:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    say(f"{written}{': ' if shown else ''}{shown}")
