"""Writing a model that is put together from parts as one folder that samples."""

import json
import shutil
from pathlib import Path

import torch

from bdiff.files import write_whole
from bdiff.presets import find_preset
from bdiff.run.parts import Parts
from bdiff.run.source import Source
from bdiff.run.surroundings import layout, pipeline_index
from bdiff_core import save_transformer
from bdiff_core.wan import UMT5TextEncoder, WanVAE


def convert_whole(
    model: Path,
    target: Path,
    *,
    parts: Parts | None = None,
    preset: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model and what takes the place of its parts as a pipeline's folder of diffusers.

    LoRAs are merged. The sampling of a preset is written as ``sampling.json``. The folder appears as a whole: it is
    made under another name and renamed.

    Args:
        model: A pipeline's folder of diffusers, or Wan's own.
        target: The folder to make.
        parts: What is taken from elsewhere.
        preset: Name of a preset; None: the one that the files are recognised as, or none.
        dtype: Name of a torch dtype; None: bfloat16, in which these models are published.
        overwrite: Replace what the target holds.

    Raises:
        ValueError: If a part is missing or damaged, or the target holds something, or the model is not Wan's.
    """
    source = Source(folder=model, dtype=getattr(torch, dtype or "bfloat16"), device="cpu", parts=parts or Parts())
    if layout(model) == "own":
        raise ValueError(f"{model} is no pipeline of diffusers and no folder of Wan; expected one of them for --whole")
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise ValueError(f"{target} holds something; name another target or say --overwrite")
    source.check()
    name = source.preset(preset)
    partial = target.with_name(f".{target.name}.whole")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(source, partial, name)
        if target.is_dir():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(source: Source, folder: Path, preset: str | None) -> None:
    folder.mkdir(parents=True)
    vae, encoder = source.vae(), source.encoder()
    assert isinstance(vae, WanVAE)
    assert isinstance(encoder, UMT5TextEncoder)  # a pipeline of Wan has no others
    vae.save(folder / "vae")
    encoder.save(folder)
    source.scheduler().save_pretrained(str(folder / "scheduler"))
    save_transformer(source.transformer(), folder / "transformer", format="diffusers")
    write_whole(folder / "model_index.json", json.dumps(_index(source), indent=2) + "\n")
    own = source.folder / "sampling.json"
    if preset is not None:
        written = source.sampling(preset)
        settings = {name: getattr(written, name) for name in (*find_preset(preset).settings, "negative")}
        write_whole(folder / "sampling.json", json.dumps(settings, indent=2) + "\n")
    elif own.is_file():
        shutil.copyfile(own, folder / "sampling.json")


def _index(source: Source) -> dict[str, object]:
    """What the pipeline says of itself, for `bdiff` and for diffusers."""
    skyreels = source.config.fps_embedding or source.config.native_mode == "overlap"
    family = "SkyReelsV2DiffusionForcing" if skyreels else "Wan"
    named = pipeline_index(source.folder).get("_class_name", f"{family}Pipeline")
    transformer = "SkyReelsV2Transformer3DModel" if skyreels else "WanTransformer3DModel"
    return {
        "_class_name": named,
        "scheduler": ["diffusers", type(source.scheduler()).__name__],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", transformer],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
