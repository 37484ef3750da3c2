"""`python -m studies.memory_cost`: what the memory costs."""

from typing import Any

import click

from bdiff.cli import PATH, WORKERS, given, num_chunks, output_folder, refuse_idle, setting_options, show_figures
from studies.command import refuse_sizes, run_study, tiny_option

_SIZES = ("num_chunks", "repeats", "num_stories", "num_seeds", "steps", "workers")
"""Options that --tiny sets."""


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of figures.json and page.md.")
@click.option("--model", type=PATH, help="Model folder. Default: the one that ships.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(("overhead", "throughput", "peak", "exactness", "video")),
    multiple=True,
    help="What to measure; repeat it. Default: all. Throughput and peak need 10 GB of memory.",
)
@click.option("--num-chunks", type=num_chunks(6), help="Chunks of the videos measured.  [default: 25]")
@click.option("--repeats", type=click.IntRange(2), help="How often speeds are measured.  [default: 9]")
@click.option("--num-stories", type=click.IntRange(1), help="Stories that formats are compared on.  [default: 4]")
@click.option("--num-seeds", type=click.IntRange(2), help="Videos of each story in each format.  [default: 3]")
@setting_options("steps")
@click.option("--workers", type=WORKERS, help="Processes that make these videos.  [default: 2]")
@tiny_option
def command(parts: tuple[str, ...], tiny: bool, **options: Any) -> None:
    """Measure what the memory costs in time, exactness and memory; the figures also go to stdout."""
    from studies.memory_cost import MemoryCostConfig, measure_memory_cost, tiny_config

    if tiny:
        refuse_sizes(options, _SIZES)
    chosen = {name: value for name, value in options.items() if name != "steps"}
    config = MemoryCostConfig(settings=given({"steps": options["steps"]}), **given(chosen | {"parts": parts or None}))
    videos = {"overhead", "exactness", "video"} & set(config.parts)
    used = {name: bool(videos) for name in ("model", "num_chunks", "steps")}
    used |= dict.fromkeys(("num_stories", "num_seeds", "workers"), "video" in config.parts)
    used["repeats"] = "throughput" in config.parts
    refuse_idle(options, used, f"is a setting of no part in {', '.join(config.parts)}")
    config = tiny_config(config) if tiny else config
    with output_folder(config.out):
        figures = measure_memory_cost(config)
    show_figures(figures, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.memory_cost")
