"""Opening a checkpoint, and loading a transformer from it without a second copy in memory."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from bdiff_core.checkpoint.configs import (
    CLASSES,
    DIFFUSERS_CLASSES,
    OUR_CLASS,
    complete_config,
    config_from_shapes,
    is_known,
)
from bdiff_core.checkpoint.families import refuse_channels, refuse_class, refuse_names, refuse_two
from bdiff_core.checkpoint.lora import Change, open_loras, read_changes
from bdiff_core.checkpoint.names import (
    Part,
    Style,
    parts_by_name,
    plain_name,
    source_names,
    source_shape,
    style_of,
)
from bdiff_core.checkpoint.places import DIFFUSERS_STEM, OUR_STEM, Place, find_place, weight_files
from bdiff_core.checkpoint.problems import raise_problems
from bdiff_core.checkpoint.quantized import plain_weights
from bdiff_core.checkpoint.tensors import StoredTensor, TensorFile, common_dtype, read_parts, read_tensors
from bdiff_core.config import ModelConfig
from bdiff_core.files.finite import check_finite, is_finite
from bdiff_core.model import ChunkDiT

Format = Literal["bdiff", "diffusers", "wan", "pt"]
"""`bdiff`: ours. `diffusers`: its names. `wan`: names of Wan's own code, in safetensors. `pt`: a pickle."""

# Names under which projects that train chunk by chunk store the transformer.
_CACHED_ENTRIES = ("generator", "generator_ema", "model")
# Parameters that published checkpoints may hold and that no model uses.
_UNUSED = re.compile(r"\.norm_added_q\.|^freqs$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A transformer on disk that fits its config; its numbers have not been read."""

    path: Path
    """The folder, or the one file."""
    format: Format
    """Its format."""
    config: ModelConfig
    """The transformer it holds, and the mode it was trained in."""
    files: tuple[Path, ...]
    """The files with its numbers."""
    entry: str | None
    """The name under which a `pt` keeps them."""
    style: Style
    """Whose names the parameters have."""
    tensors: Mapping[str, StoredTensor]
    """The stored tensors, by these names."""

    @property
    def num_parameters(self) -> int:
        """Numbers in the transformer."""
        return sum(torch.Size(shape).numel() for shape in _expected(self.config).values())

    @property
    def dtypes(self) -> dict[torch.dtype, int]:
        """How many numbers are stored in each dtype, the most frequent first."""
        counts: Counter[torch.dtype] = Counter()
        for stored in self.tensors.values():
            counts[stored.dtype] += torch.Size(stored.shape).numel()
        return dict(counts.most_common())

    def load(
        self,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        loras: Mapping[str | Path, float] | None = None,
    ) -> ChunkDiT:
        """Load the transformer; the arguments are those of `load_transformer`."""
        with torch.device("meta"):
            model = ChunkDiT(self.config)
        changes = self._changes(loras or {})
        weights = {}
        for name, shape in _expected(self.config).items():
            sources = [self.tensors[source] for source in source_names(name, self.style)]
            weights[name] = weight = torch.empty(shape, dtype=dtype or common_dtype(sources), device=device)
            if name not in changes:
                read_parts(sources, weight)
            else:
                exact = torch.empty(shape, dtype=torch.float32, device=device)  # so that the sum is rounded once
                read_parts(sources, exact)
                parts = exact.chunk(len(source_names(name, "wan")))
                for part, change in changes[name]:
                    change.add_to(parts[part])
                weight.copy_(exact)
            if not is_finite(weight):
                self._refuse(name, weight.dtype)
        model.load_state_dict(weights, assign=True)
        return model

    def _refuse(self, name: str, dtype: torch.dtype) -> None:
        """Raise the error for a parameter that is not finite in memory, saying whether it is finite on disk."""
        for source in source_names(name, self.style):
            stored = self.tensors[source]
            check_finite([(source, stored.read())], stored.file)
        raise ValueError(
            f"{self.path}: {source_names(name, self.style)[0]} holds numbers too large for "
            f"{str(dtype).removeprefix('torch.')}, as stored or with the LoRAs added; take bfloat16 or float32, and "
            "LoRAs at less strength"
        )

    def _changes(self, loras: Mapping[str | Path, float]) -> dict[str, list[tuple[int, Change]]]:
        """What LoRAs add to the parts of each parameter."""
        parts: dict[str, Part] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        expected = _expected(self.config)
        for style in ("diffusers", "wan"):
            named = parts_by_name(expected, style)
            parts |= named
            shapes |= {source: source_shape(n, expected[n], self.config, style) for source, (n, _) in named.items()}
        changes: dict[str, list[tuple[int, Change]]] = defaultdict(list)
        for lora in open_loras(loras):
            for (name, part), change in read_changes(lora, parts=parts, shapes=shapes):
                changes[name].append((part, change))
        return changes


def load_transformer(
    path_or_repo: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    config: ModelConfig | None = None,
    entry: str | None = None,
    loras: Mapping[str | Path, float] | None = None,
) -> ChunkDiT:
    """Load a transformer; memory holds it only once.

    It reads the folders of `save_transformer`; those of diffusers' `WanTransformer3DModel` and
    `SkyReelsV2Transformer3DModel` and of FastVideo's `CausalWanTransformer3DModel`, alone or in a pipeline; those of
    Wan 2.1 and SkyReels-V2 in the names of their own code; single safetensors files in any of these names; and the
    `.pt` files of Self-Forcing, CausVid and LongLive.

    Args:
        path_or_repo: A folder, a file, or a repository of the Hugging Face hub if nothing of that name exists:
            `owner/name`, or `owner/name/file` for one file or folder of it.
        dtype: Dtype of the weights; None: the one they are stored in, bfloat16 for floats of 8 bits with scales.
        device: Where the weights go.
        config: The transformer's config, if the checkpoint has none that is complete, or to set another mode.
        entry: Of a `.pt`, the name under which it keeps the weights; None: the first there is of `generator_ema`,
            `generator`, `model` and `state_dict`.
        loras: LoRAs (files, folders, repositories) and their strength, 1 as trained, or the whole scale for files that
            say no alpha: added to the weights, each sum rounded to `dtype` once.

    Raises:
        ValueError: If this is no such transformer, is damaged, holds numbers that are not finite, or its weights or
            LoRAs do not fit its config; the names that are missing, unexpected or of another shape are listed.
    """
    return open_checkpoint(path_or_repo, config=config, entry=entry).load(dtype=dtype, device=device, loras=loras)


def open_checkpoint(
    path_or_repo: str | Path, *, config: ModelConfig | None = None, entry: str | None = None
) -> Checkpoint:
    """What lies at a path, as far as can be told without reading its numbers; the arguments are those of
    `load_transformer`.

    Raises:
        ValueError: As `load_transformer` does.
    """  # noqa: D205
    place = _known(find_place(path_or_repo))
    if place.config is None or place.config.get("_class_name") != OUR_CLASS:
        refuse_two(place.path, place.index)
    told = complete_config(place.config, place.config_file, index=place.index)
    files, read = _read_files(place, entry)
    style, tensors = _named(place, read)
    if config is None:
        config = _config(place, told, style, tensors, read[0])
        if style != "bdiff":
            refuse_channels(config, place.path)
    _check(tensors, config, style, place)
    return Checkpoint(
        path=place.path,
        format="pt" if read[0].pickled else style,
        config=config,
        files=files,
        entry=read[0].entry,
        style=style,
        tensors=tensors,
    )


def _read_files(place: Place, entry: str | None) -> tuple[tuple[Path, ...], list[TensorFile]]:
    files: tuple[Path, ...] = (place.path,)
    if place.path.is_dir():
        kind = None if place.config is None else place.config.get("_class_name")
        stems: tuple[str, ...] = (OUR_STEM,) if kind == OUR_CLASS else (DIFFUSERS_STEM,)
        stems = stems if kind in (OUR_CLASS, *DIFFUSERS_CLASSES) else (DIFFUSERS_STEM, OUR_STEM)
        files = weight_files(place.path, stems)
    return files, [read_tensors(file, entry=entry) for file in files]


def _named(place: Place, read: Sequence[TensorFile]) -> tuple[Style, dict[str, StoredTensor]]:
    """The style of the names, and the tensors by names without what training code puts around them."""
    kind = None  # a config beside a file or a pickle shows its sizes, not its names
    if place.config is not None and place.path.is_dir() and not read[0].pickled:
        kind = place.config.get("_class_name")
    if kind == OUR_CLASS:
        return "bdiff", plain_weights({n: stored for file in read for n, stored in file.tensors.items()}, place.path)
    refuse_names(read, place.path)
    tensors: dict[str, StoredTensor] = {}
    for file in read:
        for name, stored in file.tensors.items():
            if plain_name(name) in tensors:
                raise ValueError(f"{place.path} holds two tensors named {plain_name(name)}")
            tensors[plain_name(name)] = stored
    tensors = plain_weights(tensors, place.path)
    style: Style | None = "diffusers" if kind in DIFFUSERS_CLASSES else style_of(tensors)
    if style is None:
        raise ValueError(f"{place.path} holds no transformer of the Wan family: {read[0].told(tensors)}")
    return style, tensors


def _known(place: Place) -> Place:
    """The place, without its config if that describes something else; such a config may lie beside a single file.

    Raises:
        ValueError: If the config of a folder describes something else.
    """
    kind = None if place.config is None else place.config.get("_class_name")
    if place.path.is_dir():
        refuse_class(kind, place.path)
    if place.config is None or is_known(place.config):
        return place
    if place.path.is_dir():
        found = f"is of a {kind}" if kind else "does not say what it is of (_class_name)"
        raise ValueError(f"{place.config_file} {found}; expected one of {', '.join(CLASSES)}")
    return replace(place, config=None)


def _config(
    place: Place, told: ModelConfig | None, style: Style, tensors: Mapping[str, StoredTensor], file: TensorFile
) -> ModelConfig:
    cached = file.entry in _CACHED_ENTRIES
    inside = file.metadata.get("config")
    inside = dict(inside) if isinstance(inside, Mapping) and is_known(dict(inside)) else None
    if told is not None and inside is None:
        return replace(told, native_mode="cached") if cached else told
    shapes = _shapes_of_ours(tensors, style)
    return config_from_shapes(
        shapes, inside or place.config, place.config_file, weights=file.path, trained_with_cache=cached
    )


def _shapes_of_ours(tensors: Mapping[str, StoredTensor], style: Style) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters that are stored as one tensor, by our names."""
    layers = {name.split(".")[1] for name in tensors if re.match(r"blocks\.\d+\.", name)}
    config = ModelConfig(dim=2, num_layers=1, num_heads=1, ffn_dim=1, image_dim=1, image_length=1, fps_embedding=True)
    ours = list(_expected(config))
    ours += [name.replace("blocks.0.", f"blocks.{layer}.", 1) for layer in layers for name in ours if "blocks." in name]
    named = ((name, source_names(name, style)) for name in ours)
    return {name: tensors[names[0]].shape for name, names in named if len(names) == 1 and names[0] in tensors}


def _expected(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a transformer."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in ChunkDiT(config).state_dict().items()}


def _check(tensors: Mapping[str, StoredTensor], config: ModelConfig, style: Style, place: Place) -> None:
    """Raise one error that names the stored parameters that are missing, unexpected or of the wrong shape."""
    expected = _expected(config)
    parts = parts_by_name(expected, style)
    problems = [f"missing {name}" for name in sorted(set(parts) - set(tensors))]
    problems += [f"unexpected {name}" for name in sorted(set(tensors) - set(parts)) if not _UNUSED.search(name)]
    for source, (name, _) in parts.items():
        shape = source_shape(name, expected[name], config, style)
        if source in tensors and tensors[source].shape != shape:
            problems.append(f"{source} is {tensors[source].shape}, expected {shape}")
        elif source in tensors and not tensors[source].dtype.is_floating_point:
            problems.append(f"{source} is {str(tensors[source].dtype).removeprefix('torch.')}, expected floats")
    about = "its config.json" if place.config is not None else "its config"
    raise_problems(problems, f"the weights in {place.path} do not fit {about}")
