"""Writing a transformer in any of the formats that can be read."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from bdiff_core.checkpoint.configs import described, described_for_diffusers, described_for_wan
from bdiff_core.checkpoint.names import Style, split
from bdiff_core.checkpoint.places import CONFIG, DIFFUSERS_STEM, OUR_STEM, PICKLES
from bdiff_core.checkpoint.reading import Format
from bdiff_core.files.whole import named_errors, whole_file, write_tensors
from bdiff_core.model import ChunkDiT


def save_transformer(
    model: ChunkDiT, path: str | Path, *, format: Format = "bdiff", max_file_bytes: int | None = None
) -> None:
    """Write a transformer in the dtype it has, each file under a temporary name first.

    Args:
        model: The transformer.
        path: A folder, made if it does not exist: `config.json` and safetensors files. For the format `pt` a file.
        format: What can read it: `bdiff` this package, `diffusers` its `WanTransformer3DModel` or
            `SkyReelsV2Transformer3DModel`, `wan` the code of Wan 2.1 and SkyReels-V2, `pt` that of Self-Forcing and its
            kin. All of them can be read back here, with the native mode.
        max_file_bytes: Split the weights into files of at most so many bytes (no tensor is split), with an index; None:
            one file.

    Raises:
        ValueError: If the format cannot express the config, or path and format do not go together.
        OSError: With the name of the file, if the disk is full or cannot be written; nothing new is left behind.
    """
    path = Path(path)
    if format not in ("bdiff", "diffusers", "wan", "pt"):
        raise ValueError(f"format is {format!r}; expected 'bdiff', 'diffusers', 'wan' or 'pt'")
    if (format == "pt") != (path.suffix in PICKLES):
        raise ValueError(f"{path}: the format 'pt' is a file that ends in .pt, every other format a folder")
    if max_file_bytes is not None and (max_file_bytes < 1 or format == "pt"):
        raise ValueError(
            f"max_file_bytes is {max_file_bytes} with the format {format!r} (--max-file-gb); expected at least 1, and "
            "no pt, which is one file"
        )
    if format == "pt":
        _save_pickle(model, path)
        return
    style: Style = format
    describe = {"bdiff": described, "diffusers": described_for_diffusers, "wan": described_for_wan}[format]
    config = describe(model.config)
    stem = OUR_STEM if format == "bdiff" else DIFFUSERS_STEM
    with _temporary_folder(path) as temporary:
        _write_weights(model, style, temporary, stem=stem, max_file_bytes=max_file_bytes)
        _write_json(temporary / CONFIG, config)
        written = sorted(file.name for file in temporary.iterdir())
        for file in sorted(written, key=lambda file: file.endswith(".json")):  # weights first, then what describes them
            os.replace(temporary / file, path / file)
    earlier = [
        file
        for known in (OUR_STEM, DIFFUSERS_STEM)
        for pattern in (f"{known}.safetensors*", f"{known}-*-of-*.safetensors")
        for file in path.glob(pattern)
    ]
    for stale in earlier:
        if stale.name not in written:  # from an earlier save; they would be read instead
            stale.unlink()


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder within the folder to write to. That folder is made, and removed again after an error."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as name:
            yield Path(name)
    except BaseException as error:
        if made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError) and error.filename is not None and ".saving-" in str(error.filename):
            named = str(folder / Path(str(error.filename)).name)  # instead of its temporary name
            raise OSError(error.errno, error.strerror, named) from error
        raise


def _write_json(file: Path, content: object) -> None:
    with named_errors(file):
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_weights(model: ChunkDiT, style: Style, temporary: Path, *, stem: str, max_file_bytes: int | None) -> None:
    groups = list(_groups(model, style, max_file_bytes))
    single = len(groups) == 1
    weight_map: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        file = f"{stem}.safetensors" if single else f"{stem}-{number:05}-of-{len(groups):05}.safetensors"
        weights = {name: part.contiguous().cpu() for name, part in split(model, style) if name in names}
        write_tensors(weights, temporary / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if not single:
        total = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(temporary / f"{stem}.safetensors.index.json", index)


def _groups(model: ChunkDiT, style: Style, max_file_bytes: int | None) -> Iterator[set[str]]:
    """Names of the tensors of each file."""
    names: set[str] = set()
    size = 0
    for name, part in split(model, style):
        added = part.numel() * part.element_size()
        if names and max_file_bytes is not None and size + added > max_file_bytes:
            yield names
            names, size = set(), 0
        names.add(name)
        size += added
    yield names


def _save_pickle(model: ChunkDiT, file: Path) -> None:
    weights: dict[str, Tensor] = {f"model.{name}": part.cpu() for name, part in split(model, "wan")}
    config = described_for_wan(model.config)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial, partial.open("wb") as opened:
        torch.save({"generator": weights, "config": config}, opened)
