"""Commands that read and write transformers: convert, inspect."""

import json
from pathlib import Path
from typing import Any

import click

from bdiff import defaults
from bdiff.cli.terminal import NAME, PATH, Positive, say
from bdiff.idle import refuse_idle


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
@click.option(
    "--whole",
    is_flag=True,
    help="Write a whole model that samples: SOURCE is a pipeline's folder of diffusers, or Wan's own, with "
    "--transformer, --vae and --text-encoder in place of its parts, and --preset.",
)
@click.option("--transformer", help="With --whole: transformer in place of SOURCE's.")
@click.option("--vae", help="With --whole: autoencoder in place of SOURCE's.")
@click.option("--text-encoder", help="With --whole: text encoder in place of SOURCE's.")
@click.option("--preset", help="With --whole: write the sampling of a preset, see bdiff presets.")
def convert_command(source: str, target: Path, max_file_gb: float | None, whole: bool, **options: Any) -> None:
    """Write the transformer of SOURCE to TARGET in another format or dtype.

    SOURCE is a folder or file of diffusers, FastVideo, Wan 2.1, ComfyUI, SkyReels-V2, Self-Forcing, CausVid, LongLive
    or bdiff, or a repository of the Hugging Face hub (owner/name, or owner/name/file). TARGET is a folder; for the
    format pt a file.
    """
    from bdiff.run import convert

    of_whole = {name: options.pop(name) for name in ("transformer", "vae", "text_encoder", "preset")}
    if whole:
        _convert_whole(source, target, of_whole, options, max_file_gb)
        return
    refuse_idle(of_whole, dict.fromkeys(of_whole, False), "is of --whole, which writes all parts of a model")
    most = None if max_file_gb is None else max(1, round(max_file_gb * 1e9))
    convert(source, target, max_file_bytes=most, **options)
    say(f"{target} holds the transformer of {source}")


def _convert_whole(
    source: str, target: Path, of_whole: dict[str, Any], options: dict[str, Any], max_file_gb: float | None
) -> None:
    """Write a whole model; options of a transformer's format are refused."""
    from bdiff.run import Parts, convert_whole, local_folder

    given = {"format": options["format"], "mode": options["mode"], "max_file_gb": max_file_gb}
    refuse_idle(given, dict.fromkeys(given, False), "is of a transformer alone, not of --whole")
    preset = of_whole.pop("preset")
    parts = Parts.located(**of_whole, entry=options["entry"], loras=options["loras"])
    writing = {"preset": preset, "dtype": options["dtype"], "overwrite": options["overwrite"]}
    convert_whole(local_folder(source), target, parts=parts, **writing)
    say(f"{target} holds a model that samples: bdiff sample --model {target}")


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
