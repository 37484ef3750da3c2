"""`python -m studies.hour`: time and memory of an hour of video."""

from typing import Any

import click

from bdiff import defaults
from bdiff.cli import MEMORY_LIMIT_OPTION, PATH, given, num_chunks, output_folder, show_figures
from studies.command import refuse_sizes, run_study, tiny_option


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the video and the figures; a stopped run goes on.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--num-chunks", type=num_chunks(202), help="Length of the video.  [default: 1440, an hour]")
@click.option("--policy", type=click.Choice(defaults.POLICIES))
@MEMORY_LIMIT_OPTION
@tiny_option
def command(memory_limit: int | None, tiny: bool, **options: Any) -> None:
    """Make a video of an hour and measure time and memory of every chunk; the summary goes to stdout."""
    from studies.hour import HourConfig, measure_hour

    limit = None if memory_limit is None else memory_limit * 1_000_000
    if tiny:
        refuse_sizes(options, ("num_chunks",))
        options |= {"num_chunks": 8, "settled": 2}
    config = HourConfig(**given(options | {"memory_limit": limit}))
    with output_folder(config.out):
        summary = measure_hour(config)
    show_figures(summary, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.hour")
