"""`python -m studies.ablation`."""

from typing import Any

import click

from bdiff import defaults
from bdiff.cli import (
    PATH,
    WORKERS,
    Positive,
    Renamed,
    given,
    num_chunks,
    output_folder,
    say,
    setting_options,
    show_figures,
)
from studies.command import refuse_sizes, run_study, tiny_option

_TRAINING = {
    "train_steps": "steps",
    "learning_rate": "learning_rate",
    "num_train_stories": "stories",
    "bfloat16": "bfloat16",
}
"""Options of post-training, and the names of their settings."""
_SIZES = (*_TRAINING, "num_seeds", "num_stories", "num_chunks", "steps", "workers")
"""Options that --tiny sets; it also makes the two configurations of the claim unless a table is named."""


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of runs, figures and page; a stopped study goes on.")
@click.option(
    "--table",
    "tables",
    type=click.Choice(("5", "6", "claim")),
    multiple=True,
    help="5: the cache. 6: the losses. claim: two configurations of 6. Repeat it. Default: 5 and 6.",
)
@click.option("--sweep", is_flag=True, help="Add configurations of other gamma, w and adversarial weight.")
@click.option(
    "--configuration",
    "--cells",
    "configurations",
    cls=Renamed,
    multiple=True,
    metavar="LABEL",
    help="Only these configurations of the tables; repeat it.",
)
@click.option(
    "--model",
    type=PATH,
    help="Folder of autoencoder, settings and the transformer to begin with. Default: the one that ships.",
)
@click.option("--base", "bases", type=PATH, multiple=True, help="Transformer to begin with: one for each seed.")
@click.option("--stories", type=PATH, help="Folder of encoded stories; those missing are made. Default: in --out.")
@click.option("--num-seeds", type=click.IntRange(1), help="Post-trainings of each configuration.  [default: 3]")
@click.option("--num-stories", type=click.IntRange(1), help="Held-out stories to sample.  [default: 32]")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each.  [default: 12]")
@click.option("--train-steps", type=click.IntRange(1), help="Steps of post-training.  [default: 150]")
@click.option("--learning-rate", type=Positive(), help="Learning rate of post-training.  [default: 0.0001]")
@click.option("--num-train-stories", type=click.IntRange(1), help="Stories to train on.  [default: 256]")
@click.option("--bfloat16", is_flag=True, default=None, help="Matrix products in bfloat16, for CPUs that have them.")
@setting_options("steps", old={"steps": "--denoising-steps"})
@click.option("--workers", type=WORKERS, help="Processes.  [default: 2]")
@click.option("--minutes", type=Positive(), help="Stop after so long and say what is left. Default: no limit.")
@tiny_option
def command(tiny: bool, sweep: bool, **options: Any) -> None:
    """Post-train, sample and measure the configurations of the paper's Tables 5 and 6; the summary goes to stdout.

    The folder gets page.md, which opens with whether the paper's claim holds, plots, summary.json, and the JSON of
    every run. Run the command again to go on, with more seeds, stories or configurations if you like.
    """
    from studies.ablation import AblationConfig, PostTraining, check, run_ablation, tiny_config

    if tiny:
        refuse_sizes(options, _SIZES)
        options |= {"num_seeds": len(options["bases"]) or None, "tables": options["tables"] or ("claim",)}
    shared = given({new: options.pop(old) for old, new in _TRAINING.items()})
    several = {name: tuple(options.pop(name)) or None for name in ("tables", "configurations", "bases")}
    model = options.pop("model") or defaults.WEIGHTS
    settings = given({"steps": options.pop("steps")})
    config = AblationConfig(
        model=model,
        sweep=sweep,
        training=PostTraining(**shared),
        settings=settings,
        **given(options | several),
    )
    config = tiny_config(config) if tiny else config
    check(config)
    with output_folder(config.out):
        summary, left = run_ablation(config, say=say)
    if left:
        say(f"the time is over; left to do: {left}. The same command goes on")
    show_figures(summary, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.ablation")
