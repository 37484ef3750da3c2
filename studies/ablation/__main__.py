"""`python -m studies.ablation`."""

from typing import Any

import click

from bdiff import defaults
from bdiff.cli.terminal import PATH, WORKERS, Positive, given, num_chunks, output_folder, say, show_figures
from studies.command import run_study

_TRAINING = {
    "steps": "steps",
    "learning_rate": "learning_rate",
    "num_train_stories": "stories",
    "bfloat16": "bfloat16",
}
"""Options of post-training, and the names of their settings."""
_SIZES = (*_TRAINING, "num_seeds", "num_stories", "num_chunks", "denoising_steps", "workers")
"""Options that --tiny takes the place of."""


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of runs, figures and page; a stopped bench goes on.")
@click.option(
    "--table",
    "tables",
    type=click.Choice(("5", "6", "claim")),
    multiple=True,
    help="5: the cache. 6: the losses. claim: two cells of 6. Repeat it. Default: 5 and 6.",
)
@click.option("--sweep", is_flag=True, help="Also cells of other gamma, w and weight of the game.")
@click.option("--cells", multiple=True, metavar="LABEL", help="Only these cells of the tables; repeat it.")
@click.option(
    "--model",
    type=PATH,
    help="Folder of autoencoder, settings and the transformer to begin with. Default: the one that ships.",
)
@click.option("--base", "bases", type=PATH, multiple=True, help="Transformer to begin with: one for each seed.")
@click.option("--stories", type=PATH, help="Folder of encoded stories; those missing are made. Default: in --out.")
@click.option("--num-seeds", type=click.IntRange(1), help="Post-trainings of each cell.  [default: 3]")
@click.option("--num-stories", type=click.IntRange(1), help="Held-out stories to tell.  [default: 32]")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each.  [default: 12]")
@click.option("--steps", type=click.IntRange(1), help="Of post-training.  [default: 150]")
@click.option("--learning-rate", type=Positive(), help="Of post-training.  [default: 0.0001]")
@click.option("--num-train-stories", type=click.IntRange(1), help="Stories to train on.  [default: 256]")
@click.option("--bfloat16", is_flag=True, default=None, help="Matrix products in bfloat16, for CPUs that have them.")
@click.option(
    "--denoising-steps", type=click.IntRange(1, 1000), help="Steps a chunk of films measured. Default: the model's."
)
@click.option("--workers", type=WORKERS, help="Processes.  [default: 2]")
@click.option("--minutes", type=Positive(), help="Stop after so long and say what is left. Default: no limit.")
@click.option(
    "--tiny", is_flag=True, help="Seconds instead of hours, to see that everything runs; figures say nothing."
)
def command(tiny: bool, sweep: bool, **options: Any) -> None:
    """Post-train, tell and measure the cells of the paper's Tables 5 and 6; the summary goes to stdout.

    The folder gets page.md, which opens with whether the paper's claim holds, plots, summary.json, and the JSON of
    every run. Begin it again to go on, with more seeds, stories or cells if you like.
    """
    from studies.ablation import AblationConfig, PostTraining, bench_ablation, check, tiny_config

    if tiny and (both := [name for name in _SIZES if options[name] is not None]):
        raise ValueError(f"--tiny has sizes of its own: leave --{both[0].replace('_', '-')} away")
    if tiny and options["bases"]:
        options["num_seeds"] = len(options["bases"])
    shared = given({new: options.pop(old) for old, new in _TRAINING.items()})
    several = {name: tuple(options.pop(name)) or None for name in ("tables", "cells", "bases")}
    model = options.pop("model") or defaults.WEIGHTS
    config = AblationConfig(model=model, sweep=sweep, training=PostTraining(**shared), **given(options | several))
    config = tiny_config(config) if tiny else config
    check(config)
    with output_folder(config.out):
        summary, left = bench_ablation(config, say=say)
    if left:
        say(f"time is over; left to do: {left}. The same command goes on")
    show_figures(summary, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.ablation")
