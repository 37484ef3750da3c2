"""`bdiff bench peers`."""

from typing import Any

import click

from bdiff.cli import PATH, Positive, check_device, given, num_chunks, output_folder, refuse_idle, say, show_figures


@click.command("peers")
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME",
    help="default, wide (1.3B layers, two of them), wan-1.3b (832 x 480, for a GPU) or toy; repeat it. "
    "Default: default and wide.",
)
@click.option(
    "--contestant",
    "contestants",
    multiple=True,
    metavar="NAME",
    help="Our loop: semantic, dense. Pipelines of diffusers: synchronous, asynchronous, anyflow. Repeat it. "
    "Default: all.",
)
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of every video.  [default: 24]")
@click.option("--repeats", type=click.IntRange(1), help="Videos of each contestant.  [default: 5]")
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the shape's.")
@click.option("--context", type=click.IntRange(2), help="Past chunks in view.  [default: 4]")
@click.option(
    "--coverage",
    type=Positive(1),
    help="Share of the attention that the semantic memory's tokens cover. Default: as in bdiff sample.",
)
@click.option(
    "--lag",
    type=click.IntRange(1),
    help="Steps by which a chunk of the asynchronous mode follows the last. Default: a tenth of all.",
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(("float32", "bfloat16", "float16")))
@click.option("--compile", "compile_", is_flag=True, help="Compile the transformers' blocks.")
@click.option("--threads", type=click.IntRange(1), help="Threads of each process. Default: as torch chooses.")
@click.option("--minutes", type=Positive(), help="Begin no round of videos that would end later. Default: no limit.")
def bench_peers_command(device: str, compile_: bool, **options: Any) -> None:
    """Time the chunk loop beside the pipelines of diffusers, on the same weights.

    The folder gets page.md with tables, a plot of each shape, figures.json, and a line of every video. The figures also
    go to stdout.
    """

    def show(line: dict[str, Any]) -> None:
        took = f" {line['arrivals'][-1]:.1f} s" if "arrivals" in line else ""
        say(f"{line['shape']}, round {line['round']}: {line['contestant']}{took}")

    check_device(device)
    from bdiff_bench.peers import PeersConfig, bench_peers, check

    chosen = {name: options.pop(name) or None for name in ("shapes", "contestants")}
    config = PeersConfig(device=device, compile=compile_, **given(options | chosen))
    took_part = {"lag": "asynchronous", "coverage": "semantic"}
    used = {option: contestant in config.contestants for option, contestant in took_part.items()}
    refuse_idle(options, used, f"is a setting of none of {', '.join(config.contestants)}")
    check(config)
    with output_folder(config.out):
        figures = bench_peers(config, on_video=show)
    show_figures(figures, page=config.out / "page.md")
