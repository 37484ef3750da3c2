"""Commands that read and write transformers: convert, inspect."""

import json
from pathlib import Path
from typing import Any

import click

from bdiff import defaults
from bdiff.cli.terminal import NAME, PATH, Positive, say


@click.command("convert")
@click.argument("source", type=NAME)
@click.argument("target", type=PATH)
@click.option(
    "--format",
    type=click.Choice(["bdiff", "diffusers", "wan", "pt"]),
    help="Default: pt for a target that ends in .pt, else bdiff.",
)
@click.option("--dtype", type=click.Choice(defaults.DTYPES), help="Default: as stored.")
@click.option(
    "--mode", type=click.Choice(("whole", "overlap", "cached")), help="Native mode to note. Default: the source's."
)
@click.option("--entry", help="Which entry of a .pt. Default: generator_ema, else generator, else model.")
@click.option("--lora", "loras", multiple=True, metavar="PATH[@STRENGTH]", help="Merge a LoRA; repeat it for more.")
@click.option("--max-file-gb", type=Positive(), help="Split the weights into files of at most so much.")
@click.option("--overwrite", is_flag=True, help="Write even where something is.")
def convert_command(source: str, target: Path, max_file_gb: float | None, **options: Any) -> None:
    """Write the transformer of SOURCE to TARGET in another format or dtype.

    SOURCE is a folder or file of diffusers, FastVideo, Wan 2.1, ComfyUI, SkyReels-V2, Self-Forcing, CausVid, LongLive
    or bdiff, or a repository of the Hugging Face hub (owner/name, or owner/name/file). TARGET is a folder; for the
    format pt a file.
    """
    from bdiff.run import convert

    most = None if max_file_gb is None else max(1, round(max_file_gb * 1e9))
    convert(source, target, max_file_bytes=most, **options)
    say(f"{target} holds the transformer of {source}")


@click.command("inspect")
@click.argument("path", type=NAME)
@click.option("--entry", help="Which entry of a .pt. Default: generator_ema, else generator, else model.")
@click.option("--hash/--no-hash", "hashed", default=True, help="Compute SHA-256, which reads the whole file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def inspect_command(path: str, as_json: bool, **options: Any) -> None:
    """Tell what a transformer's checkpoint is: format, native mode, parameters, dtype, hash, config."""
    from bdiff.run import describe, inspect

    facts = inspect(path, **options)
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(describe(facts)))
