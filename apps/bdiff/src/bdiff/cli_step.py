"""`bdiff bench step`."""

from typing import Any

import click

from bdiff import defaults
from bdiff.terminal import PATH, given, output_folder, show_figures


@click.command("step")
@click.option("--out", type=PATH, required=True, help="Folder of the figures.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--steps", type=click.IntRange(2), help="Timed steps, in float32 and in bfloat16.  [default: 8]")
@click.option("--warm-up", type=click.IntRange(0), help="Steps before them.  [default: 2]")
@click.option("--threads", type=click.IntRange(1), help="Of torch.  [default: 1]")
def bench_step_command(**options: Any) -> None:
    """Time and profile training steps beside the machine's matrix products; the figures go to stdout, too."""
    from bdiff.bench.step import StepBenchConfig, bench_step

    config = StepBenchConfig(**given(options))
    with output_folder(config.out):
        figures = bench_step(config)
    show_figures(figures, page=config.out / "page.md")
