"""Transformers on disk: our own directories and those of diffusers."""

import json
import os
import re
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bdiff_core.config import ModelConfig
from bdiff_core.model import ChunkDiT

_CLASS_NAME = "ChunkDiT"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_MAX_PROBLEMS = 6  # that one error lists: another architecture's weights would name hundreds

# Our parameter <- those of diffusers, concatenated along the output axis. `*` is the number of a block. Parameters of
# options that a model lacks are skipped.
_FROM_DIFFUSERS: dict[str, tuple[str, ...]] = {
    "patches.project": ("patch_embedding",),
    "time.hidden": ("condition_embedder.time_embedder.linear_1",),
    "time.out": ("condition_embedder.time_embedder.linear_2",),
    "time.modulation": ("condition_embedder.time_proj",),
    "time.fps": ("fps_embedding",),
    "time.fps_hidden": ("fps_projection.net.0.proj",),
    "time.fps_out": ("fps_projection.net.2",),
    "text.hidden": ("condition_embedder.text_embedder.linear_1",),
    "text.out": ("condition_embedder.text_embedder.linear_2",),
    "image.position": ("condition_embedder.image_embedder.pos_embed",),
    "image.norm_in": ("condition_embedder.image_embedder.norm1",),
    "image.hidden": ("condition_embedder.image_embedder.ff.net.0.proj",),
    "image.out": ("condition_embedder.image_embedder.ff.net.2",),
    "image.norm_out": ("condition_embedder.image_embedder.norm2",),
    "blocks.*.table": ("blocks.*.scale_shift_table",),
    "blocks.*.self_attention.qkv": ("blocks.*.attn1.to_q", "blocks.*.attn1.to_k", "blocks.*.attn1.to_v"),
    "blocks.*.self_attention.norm_q": ("blocks.*.attn1.norm_q",),
    "blocks.*.self_attention.norm_k": ("blocks.*.attn1.norm_k",),
    "blocks.*.self_attention.out": ("blocks.*.attn1.to_out.0",),
    "blocks.*.norm_cross": ("blocks.*.norm2",),
    "blocks.*.cross_attention.q": ("blocks.*.attn2.to_q",),
    "blocks.*.cross_attention.kv": ("blocks.*.attn2.to_k", "blocks.*.attn2.to_v"),
    "blocks.*.cross_attention.image_kv": ("blocks.*.attn2.add_k_proj", "blocks.*.attn2.add_v_proj"),
    "blocks.*.cross_attention.norm_q": ("blocks.*.attn2.norm_q",),
    "blocks.*.cross_attention.norm_k": ("blocks.*.attn2.norm_k",),
    "blocks.*.cross_attention.norm_image_k": ("blocks.*.attn2.norm_added_k",),
    "blocks.*.cross_attention.out": ("blocks.*.attn2.to_out.0",),
    "blocks.*.ffn_in": ("blocks.*.ffn.net.0.proj",),
    "blocks.*.ffn_out": ("blocks.*.ffn.net.2",),
    "head.table": ("scale_shift_table",),
    "head.project": ("proj_out",),
}

# Parameters that published directories may hold and no model uses.
_UNUSED = re.compile(r"\.norm_added_q\.")

_DIFFUSERS_CLASSES = ("SkyReelsV2Transformer3DModel", "WanTransformer3DModel")
_DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_transformer(model: ChunkDiT, path: str | Path) -> None:
    """Write `config.json` and `model.safetensors`, each under a temporary name first, in the dtype the model has.

    Args:
        model: The transformer.
        path: A directory; made if it does not exist.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": _CLASS_NAME, **asdict(model.config)}
    weights = {name: p.detach().contiguous().cpu() for name, p in model.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=path, prefix=".saving-") as room:
        save_file(weights, Path(room, _WEIGHTS), metadata={"format": "pt"})
        Path(room, _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name in (_WEIGHTS, _CONFIG):
            os.replace(Path(room, name), path / name)


def load_transformer(
    path_or_repo: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> ChunkDiT:
    """Read a transformer that `save_transformer` or diffusers wrote.

    Of diffusers, `WanTransformer3DModel` and `SkyReelsV2Transformer3DModel` are known; the directory of a whole
    pipeline serves too: its `transformer` folder is read.

    Args:
        path_or_repo: A directory, or a repository of the Hugging Face hub if no such directory exists.
        dtype: Dtype of the weights; None: the one they are stored in.
        device: Where the weights go.

    Raises:
        ValueError: If the directory is no such transformer, is damaged, or its weights do not fit its config.
    """
    path = _directory(path_or_repo)
    config = _read_json(path / _CONFIG)
    ours = config.get("_class_name") == _CLASS_NAME
    model_config = _own_config(config, path) if ours else _config_from_diffusers(config, path)
    with torch.device("meta"):
        model = ChunkDiT(model_config)
    expected = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    with ExitStack() as stack:
        stored = _open_weights(path, _WEIGHTS if ours else _DIFFUSERS_WEIGHTS, stack)
        sources = {name: (name,) if ours else _diffusers_names(name) for name in expected}
        shapes = expected if ours else {n: _diffusers_shape(n, s, model_config) for n, s in expected.items()}
        _check(sources, shapes, stored, path)
        weights = {}
        for name, shape in expected.items():
            parts = [stored[source].get_tensor(source) for source in sources[name]]
            weight = parts[0] if len(parts) == 1 else torch.cat(parts)
            weights[name] = weight.reshape(shape).to(device=device, dtype=dtype)
    model.load_state_dict(weights, assign=True)
    return model


def _directory(path_or_repo: str | Path) -> Path:
    path = Path(path_or_repo)
    if not path.exists():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(path_or_repo)):
            raise ValueError(f"{path} does not exist and is no hub repository (owner/name)")
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise ImportError(f"{path} does not exist; to read it from the hub: pip install bdiff-core[hub]") from error
        wanted = [_CONFIG, _WEIGHTS, f"{Path(_DIFFUSERS_WEIGHTS).stem}*", "transformer/*"]
        path = Path(snapshot_download(str(path_or_repo), allow_patterns=wanted))
    if not (path / _CONFIG).exists() and (path / "transformer" / _CONFIG).exists():
        return path / "transformer"
    return path


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"{path.parent} holds no transformer: {path.name} is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected an object, found {type(content).__name__}")
    return content


def _own_config(config: dict, path: Path) -> ModelConfig:
    given = {name: value for name, value in config.items() if not name.startswith("_")}
    names = {field.name for field in fields(ModelConfig)}
    given = {"native_mode": "cached"} | given  # which directories older than the field do not say
    if set(given) != names:
        raise ValueError(
            f"{path / _CONFIG} does not describe this version's ModelConfig: missing {sorted(names - set(given))}, "
            f"unknown {sorted(set(given) - names)}"
        )
    return _build(given, path)


def _config_from_diffusers(config: dict, path: Path) -> ModelConfig:
    kind = config.get("_class_name")
    if kind not in _DIFFUSERS_CLASSES:
        raise ValueError(f"{path / _CONFIG} is of a {kind}; expected one of {(_CLASS_NAME, *_DIFFUSERS_CLASSES)}")
    same = ("num_layers", "ffn_dim", "in_channels", "patch_size", "text_dim", "freq_dim", "cross_attn_norm", "eps")
    missing = [name for name in (*same, "num_attention_heads", "attention_head_dim") if name not in config]
    if missing:
        raise ValueError(f"{path / _CONFIG} lacks {missing}")
    given = {name: config[name] for name in same} | {
        "num_heads": config["num_attention_heads"],
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        "out_channels": config.get("out_channels") or config["in_channels"],
        "image_dim": config.get("image_dim"),
        "image_length": config.get("pos_embed_seq_len"),
        "fps_embedding": bool(config.get("inject_sample_info")),
    }
    return _build(given, path)


def _build(given: dict, path: Path) -> ModelConfig:
    try:
        return ModelConfig(**given | {"patch_size": tuple(given["patch_size"])})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path / _CONFIG} describes no transformer: {error}") from error


def _diffusers_names(name: str) -> tuple[str, ...]:
    """Names under which diffusers keeps what makes up our parameter `name`."""
    block = re.match(r"blocks\.(\d+)\.", name)
    pattern = name if block is None else name.replace(f".{block[1]}.", ".*.", 1)
    stem, end = (pattern, "") if pattern in _FROM_DIFFUSERS else pattern.rsplit(".", 1)
    return tuple(
        (source if block is None else source.replace("*", block[1])) + (end and f".{end}")
        for source in _FROM_DIFFUSERS[stem]
    )


def _diffusers_shape(name: str, shape: tuple[int, ...], config: ModelConfig) -> tuple[int, ...]:
    """Shape of the concatenated sources, where it is not that of our parameter."""
    if name == "patches.project.weight":  # diffusers holds a strided convolution
        return (config.dim, config.in_channels, *config.patch_size)
    return (1, *shape) if name.endswith("table") else shape


def _open_weights(path: Path, name: str, stack: ExitStack) -> "dict[str, safe_open]":
    """The open file that holds each stored parameter."""
    index, files = path / f"{name}.index.json", {name}
    if index.exists():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{index} is damaged: it has no weight_map")
        files = {str(file) for file in weight_map.values()}
    stored: "dict[str, safe_open]" = {}
    for file in sorted(files):
        if not (path / file).is_file():
            raise ValueError(f"{path} is incomplete: {file} is missing")
        try:
            opened = stack.enter_context(safe_open(path / file, framework="pt"))
        except SafetensorError as error:
            raise ValueError(f"{path / file} is damaged: {error}") from error
        stored |= dict.fromkeys(opened.keys(), opened)
    return stored


def _check(
    sources: dict[str, tuple[str, ...]], shapes: dict[str, tuple[int, ...]], stored: "dict[str, safe_open]", path: Path
) -> None:
    """Raise one error that names the stored parameters that are missing, unexpected or of the wrong shape."""
    wanted = {source for names in sources.values() for source in names}
    problems = [f"missing {name}" for name in sorted(wanted - set(stored))]
    problems += [f"unexpected {name}" for name in sorted(set(stored) - wanted) if not _UNUSED.search(name)]
    for name, names in sources.items():
        if not set(names) <= set(stored):
            continue
        found = [tuple(stored[source].get_slice(source).get_shape()) for source in names]
        # Several sources always split our parameter evenly.
        expected = (shapes[name][0] // len(names), *shapes[name][1:])
        problems += [
            f"{source} is {shape}, expected {expected}"
            for source, shape in zip(names, found, strict=True)
            if shape != expected
        ]
    if problems:
        shown, more = problems[:_MAX_PROBLEMS], len(problems) - _MAX_PROBLEMS
        listed = "; ".join([*shown, f"and {more} more"] if more > 0 else shown)
        raise ValueError(f"the weights in {path} do not fit its {_CONFIG}: {listed}")
