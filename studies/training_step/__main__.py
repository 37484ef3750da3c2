"""`python -m studies.training_step`."""

from typing import Any

import click

from bdiff import defaults
from bdiff.cli.terminal import PATH, given, output_folder, show_figures
from studies.command import run_study


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the figures.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--steps", type=click.IntRange(2), help="Timed steps, in float32 and in bfloat16.  [default: 8]")
@click.option("--warm-up", type=click.IntRange(0), help="Steps before them.  [default: 2]")
@click.option("--threads", type=click.IntRange(1), help="Of torch.  [default: 1]")
def command(**options: Any) -> None:
    """Time and profile training steps beside the machine's matrix products; the figures go to stdout, too."""
    from studies.training_step.run import StepBenchConfig, bench_step

    config = StepBenchConfig(**given(options))
    with output_folder(config.out):
        figures = bench_step(config)
    show_figures(figures, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.training_step")
