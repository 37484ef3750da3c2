"""`python -m studies.memory_cost`."""

from typing import Any

import click

from bdiff.cli.terminal import PATH, WORKERS, given, num_chunks, output_folder, show_figures
from bdiff.idle import refuse_idle
from studies.command import run_study


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
@click.option("--num-chunks", type=num_chunks(6), help="Of the films measured.  [default: 25]")
@click.option("--repeats", type=click.IntRange(2), help="Times that speeds are measured.  [default: 9]")
@click.option("--num-stories", type=click.IntRange(1), help="Of the films that compare formats.  [default: 4]")
@click.option("--num-seeds", type=click.IntRange(2), help="Films of each story in each format.  [default: 3]")
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the model's.")
@click.option("--workers", type=WORKERS, help="Processes that make these films.  [default: 2]")
def command(parts: tuple[str, ...], **options: Any) -> None:
    """What the memory costs: time of a chunk, bytes a second, exactness in few bits; the figures go to stdout."""
    from studies.memory_cost.run import KVBenchConfig, bench_kv

    config = KVBenchConfig(**given(options | {"parts": parts or None}))
    films = {"overhead", "exactness", "video"} & set(config.parts)
    used = {name: bool(films) for name in ("model", "num_chunks", "steps")}
    used |= dict.fromkeys(("num_stories", "num_seeds", "workers"), "video" in config.parts)
    used["repeats"] = "throughput" in config.parts
    refuse_idle(options, used, f"is of no part in {', '.join(config.parts)}")
    with output_folder(config.out):
        figures = bench_kv(config)
    show_figures(figures, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.memory_cost")
