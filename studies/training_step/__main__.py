"""`python -m studies.training_step`: time of a training step."""

from typing import Any

import click

from bdiff import defaults
from bdiff.cli import PATH, Renamed, given, output_folder, show_figures
from studies.command import refuse_sizes, run_study, tiny_option


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the figures.")
@click.option("--model", type=PATH, help="Model folder. Default: the one that ships.")
@click.option(
    "--train-steps",
    "--steps",
    "steps",
    cls=Renamed,
    type=click.IntRange(2),
    help="Timed steps, in float32 and in bfloat16.  [default: 8]",
)
@click.option("--warm-up", type=click.IntRange(0), help="Steps before them.  [default: 2]")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch.  [default: 1]")
@tiny_option
def command(tiny: bool, **options: Any) -> None:
    """Time and profile training steps beside the machine's matrix products; the figures also go to stdout."""
    from studies.training_step import TrainingStepConfig, measure_training_step, tiny_config

    if tiny:
        refuse_sizes({**options, "train_steps": options["steps"]}, ("model", "train_steps", "warm_up"))
    config = TrainingStepConfig(**given({"model": defaults.WEIGHTS} | given(options)))
    with output_folder(config.out):
        figures = measure_training_step(tiny_config(config) if tiny else config)
    show_figures(figures, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.training_step")
