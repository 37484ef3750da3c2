"""`python -m studies.takes`: the drift of true single takes, and of planted faults."""

from typing import Any

import click

from bdiff.cli import PATH, WORKERS, given, num_chunks, output_folder, say, show_figures
from studies.command import refuse_sizes, run_study, tiny_option


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--num-seeds", type=click.IntRange(1), help="Held-out videos of each kind.  [default: 16]")
@click.option("--num-planted", type=click.IntRange(1), help="How many of these get faults, too.  [default: 4]")
@click.option("--size", type=click.IntRange(64, 1024), help="Height and width of the frames.  [default: 256]")
@click.option("--num-chunks", type=num_chunks(3), help="Chunks of every video, of 4 s.  [default: 15]")
@click.option("--workers", type=WORKERS, help="Processes.  [default: 1]")
@tiny_option
def command(tiny: bool, **options: Any) -> None:
    """Measure the drift of true videos and of planted faults; the summary goes to stdout."""
    from studies.takes import TakesConfig, measure_takes, tiny_config

    if tiny:
        refuse_sizes(options, ("num_seeds", "num_planted", "size", "num_chunks"))
    config = TakesConfig(**given(options))
    config = tiny_config(config) if tiny else config
    with output_folder(config.out):
        summary = measure_takes(config, on_job=lambda done, total: say(f"{done}/{total} parts done"))
    show_figures(summary, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.takes")
