"""`python -m studies.hour`: an hour of video, watched."""

from typing import Any

import click

from bdiff import defaults
from bdiff.cli import MEMORY_LIMIT_OPTION, PATH, given, num_chunks, output_folder, show_figures
from studies.command import run_study


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the film and the figures; a stopped run goes on.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--num-chunks", type=num_chunks(202), help="Length of the film.  [default: 1440, an hour]")
@click.option("--policy", type=click.Choice(defaults.POLICIES))
@MEMORY_LIMIT_OPTION
def command(memory_limit: int | None, **options: Any) -> None:
    """Make a film of an hour and watch time and memory; the summary goes to stdout."""
    from studies.hour.run import EnduranceConfig, bench_endurance

    limit = None if memory_limit is None else memory_limit * 1_000_000
    config = EnduranceConfig(**given(options | {"memory_limit": limit}))
    with output_folder(config.out):
        summary = bench_endurance(config)
    show_figures(summary)


if __name__ == "__main__":
    run_study(command, "studies.hour")
