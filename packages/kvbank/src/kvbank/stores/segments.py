"""Segments: the keys and values of one chunk in one file."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kvbank.policies.context import LayerSummary
from kvbank.quantization import FORMATS, PackedLayer, StoredLayer
from kvbank.recall import LayerKV
from kvbank.stores.tensorfile import map_tensors, write_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The file of one chunk."""

    path: Path
    """Where its file is."""
    checksum: str
    """CRC-32 of the file, as `write_tensors` returns it."""

    def load(
        self, *, check: bool = True, ahead: bool = False
    ) -> tuple[tuple[StoredLayer, ...], tuple[LayerSummary, ...]]:
        """Layers and summaries of the chunk, as views of the mapped file.

        Args:
            check: True compares the content of the whole file with the checksum; False only the one in its header.
            ahead: Whether to ask the system to start reading the whole file at once.

        Raises:
            DamageError: If the file is missing, or not what was written.
        """
        metadata, tensors = map_tensors(self.path, checksum=self.checksum, check=check, ahead=ahead)
        name, fields = metadata["quantization"] or (None, {})
        form: dict[str, Any] = {} if name is None else {"format": FORMATS[name](**fields)}
        kind: type[LayerKV | PackedLayer] = LayerKV if name is None else PackedLayer
        names = [field.name for field in dataclasses.fields(kind)]
        layers = tuple(
            kind(**form | {part: tensors[f"{part}.{number}"] for part in names if f"{part}.{number}" in tensors})
            for number in range(metadata["num_layers"])
        )
        means = [(tensors.get(f"mean_key.{n}"), tensors.get(f"mean_query.{n}")) for n in range(len(layers))]
        return layers, tuple(LayerSummary(key, query) for key, query in means if key is not None)

    def moved(self, path: Path) -> "Segment":
        """The same file under another name."""
        self.path.replace(path)
        return dataclasses.replace(self, path=path)


def write_segment(
    path: Path, layers: Sequence[StoredLayer], summaries: Sequence[LayerSummary] = (), *, force: bool
) -> Segment:
    """Write the file of a chunk; a file that could not be completed is removed.

    Args:
        path: Path of the file.
        layers: As they are stored; those of a GPU are copied to the host one tensor at a time.
        summaries: Summaries of the layers, or none.
        force: Whether to wait until the file and its name are on the disk.

    Raises:
        OSError: With the name of the file, if the disk is full or cannot be written.
    """
    tensors: dict[str, Tensor] = {
        f"{part}.{number}": tensor for number, layer in enumerate(layers) for part, tensor in layer.tensors().items()
    }
    for number, summary in enumerate(summaries):
        tensors[f"mean_key.{number}"] = summary.key
        if summary.query is not None:
            tensors[f"mean_query.{number}"] = summary.query
    form = layers[0].format if isinstance(layers[0], PackedLayer) else None
    metadata = {
        "num_layers": len(layers),
        "quantization": None if form is None else [type(form).__name__, dataclasses.asdict(form)],
    }
    try:
        with path.open("wb") as file:
            checksum = write_tensors(file, tensors, metadata)
            file.flush()
            if force:
                os.fsync(file.fileno())
        if force:
            force_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise named_error(error, path) from error
    return Segment(path=path, checksum=checksum)


def named_error(error: OSError, path: Path) -> OSError:
    """The same error with the name of the file; the error of a full disk has none by itself."""
    return OSError(error.errno, error.strerror or str(error), str(path))


def force_folder(path: Path) -> None:
    """Wait until new and changed names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
