"""The `ModelConfig` of a checkpoint, read from its `config.json` and, where that is silent, from stored shapes."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bdiff_core.config import ModelConfig, NativeMode

OUR_CLASS = "ChunkDiT"
CAUSAL_DIFFUSERS_CLASS = "CausalWanTransformer3DModel"  # of FastVideo, in the layout of diffusers
DIFFUSERS_CLASSES = ("SkyReelsV2Transformer3DModel", "WanTransformer3DModel", CAUSAL_DIFFUSERS_CLASS)
WAN_CLASSES = ("WanModel", "CausalWanModel")
CLASSES = (OUR_CLASS, *DIFFUSERS_CLASSES, *WAN_CLASSES)

# Key in foreign config files for fields that they have no word for; diffusers ignores names that begin with a bar.
_OURS = "_bdiff"
_WITHOUT_WORD = ("text_length", "fps", "native_mode")
# Fields that folders of an earlier version lack; all others must be there.
_LATER = ("native_mode",)
_HEAD_DIM = 128  # of every published model of the family; it cannot be seen from shapes

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of stored tensors by the names of our parameters, without parameters that are stored in several parts."""


def is_known(config: dict[str, Any]) -> bool:
    """Whether a `config.json` describes a transformer of the family."""
    return config.get("_class_name") in CLASSES or {"dim", "num_heads", "num_layers"} <= set(config)


def complete_config(config: dict[str, Any] | None, file: Path, *, index: Mapping[str, Any]) -> ModelConfig | None:
    """The config, if a `config.json` holds all of it; else None.

    Args:
        config: Content of that file; None: there is none.
        file: The file.
        index: As for `config_from_diffusers`.

    Raises:
        ValueError: If it describes no transformer of this version, or of the family.
    """
    kind = None if config is None else config.get("_class_name")
    if config is not None and kind == OUR_CLASS:
        return own_config(config, file)
    if config is not None and kind in DIFFUSERS_CLASSES:
        return config_from_diffusers(config, file, index=index)
    return None


def own_config(config: dict[str, Any], file: Path) -> ModelConfig:
    """The config that `save_transformer` wrote.

    Raises:
        ValueError: If another version wrote it, or it describes no transformer.
    """
    given = {name: value for name, value in config.items() if not name.startswith("_")}
    names = {field.name for field in fields(ModelConfig)}
    missing = names - set(given) - set(_LATER)
    if missing or set(given) - names:
        raise ValueError(
            f"{file} describes no transformer of this version: missing {sorted(missing)}, "
            f"unknown {sorted(set(given) - names)}"
        )
    return _build(given, file)


def config_from_diffusers(config: dict[str, Any], file: Path, *, index: Mapping[str, Any]) -> ModelConfig:
    """The config of a diffusers transformer.

    Args:
        config: Content of its `config.json`.
        file: That file.
        index: What the pipeline around it says of itself: whether a SkyReels-V2 model uses diffusion forcing, and
            whether a Wan model makes videos chunk by chunk; empty: there is no pipeline.

    Raises:
        ValueError: If it lacks something, or describes no transformer of the family.
    """
    same = ("num_layers", "ffn_dim", "in_channels", "patch_size", "text_dim", "freq_dim", "cross_attn_norm", "eps")
    missing = [name for name in (*same, "num_attention_heads", "attention_head_dim") if name not in config]
    if missing:
        raise ValueError(f"{file} lacks {missing}")
    given = {name: config[name] for name in same} | {
        "num_heads": config["num_attention_heads"],
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        "out_channels": config.get("out_channels") or config["in_channels"],
        "image_dim": config.get("image_dim"),
        "image_length": config.get("pos_embed_seq_len"),
        "fps_embedding": bool(config.get("inject_sample_info")),
        "native_mode": _mode_of_diffusers(config, index),
    }
    image_keys = None if given["image_dim"] is None else given["dim"]
    if config.get("added_kv_proj_dim") != image_keys:
        raise ValueError(
            f"{file}: added_kv_proj_dim is {config.get('added_kv_proj_dim')}; with image_dim {given['image_dim']} and "
            f"width {given['dim']} it must be {image_keys}: image tokens have keys of their own, and only they"
        )
    return _build(given | _own_words(config), file)


def _mode_of_diffusers(config: dict[str, Any], index: Mapping[str, Any]) -> NativeMode:
    pipeline, part = index.get("_class_name"), index.get("transformer")
    kinds = (config["_class_name"], *(part if isinstance(part, list) else ()))
    if CAUSAL_DIFFUSERS_CLASS in kinds:
        return "cached"
    if config["_class_name"] == "WanTransformer3DModel":
        return "whole"
    if isinstance(pipeline, str):
        return "overlap" if "DiffusionForcing" in pipeline else "whole"
    # Without a pipeline: models that take the frame rate use diffusion forcing, those that take an image do not.
    return "whole" if config.get("image_dim") is not None and not config.get("inject_sample_info") else "overlap"


def config_from_shapes(
    shapes: Shapes, config: dict[str, Any] | None, file: Path, *, weights: Path, trained_with_cache: bool
) -> ModelConfig:
    """The config of a checkpoint in any style: from a `config.json` in Wan's own words, and the rest from shapes.

    Args:
        shapes: Shapes that it holds.
        config: Content of its `config.json`; None: there is none.
        file: Where that file is or would be.
        weights: Where the checkpoint is.
        trained_with_cache: Whether its family makes videos chunk by chunk.

    Raises:
        ValueError: If a size is neither in the config nor visible in the shapes, or they describe no transformer.
    """
    words = {
        "dim": "dim", "num_layers": "num_layers", "num_heads": "num_heads", "ffn_dim": "ffn_dim",
        "in_channels": "in_dim", "out_channels": "out_dim", "freq_dim": "freq_dim", "text_dim": "text_dim",
        "text_length": "text_len", "patch_size": "patch_size", "eps": "eps", "qk_norm": "qk_norm",
        "cross_attn_norm": "cross_attn_norm", "fps_embedding": "inject_sample_info",
    }  # fmt: skip
    config = config or {}
    given = _seen(shapes) | {name: config[word] for name, word in words.items() if config.get(word) is not None}
    if "num_heads" not in given and "dim" in given:
        if given["dim"] % _HEAD_DIM:
            raise ValueError(
                f"{file} says no num_heads, and a width of {given['dim']} does not split into heads of {_HEAD_DIM} as "
                "those of published models do: put a config.json that says it beside the weights"
            )
        given["num_heads"] = given["dim"] // _HEAD_DIM
    lacking = [name for name in ("dim", "num_layers", "num_heads", "ffn_dim") if name not in given]
    if lacking:
        raise ValueError(
            f"{weights} holds too little of a transformer to tell {', '.join(lacking)}, and {file} does not say it"
        )
    cached = trained_with_cache or config.get("_class_name") == "CausalWanModel"
    given["native_mode"] = "cached" if cached else "overlap" if given.get("fps_embedding") else "whole"
    return _build(given | _own_words(config), file)


def _seen(shapes: Shapes) -> dict[str, Any]:
    """The fields of a config that shapes show."""
    seen: dict[str, Any] = {}
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    if blocks:
        seen["num_layers"] = max(blocks) + 1
        seen["qk_norm"] = any(name.endswith("self_attention.norm_q.weight") for name in shapes)
        seen["cross_attn_norm"] = any(name.endswith("norm_cross.weight") for name in shapes)
        seen["fps_embedding"] = "time.fps.weight" in shapes
    rows = {"dim": "time.out.weight", "ffn_dim": "blocks.0.ffn_in.weight", "image_dim": "image.hidden.weight"}
    columns = {"freq_dim": "time.hidden.weight", "text_dim": "text.hidden.weight", "image_length": "image.position"}
    seen |= {field: shapes[name][0] for field, name in rows.items() if len(shapes.get(name, ())) == 2}
    seen |= {field: shapes[name][1] for field, name in columns.items() if len(shapes.get(name, ())) > 1}
    patches, head = shapes.get("patches.project.weight", ()), shapes.get("head.project.weight", ())
    if len(patches) == 5:
        seen |= {"in_channels": patches[1], "patch_size": patches[2:]}
        if len(head) == 2:
            seen["out_channels"] = head[0] // (patches[2] * patches[3] * patches[4])
    return seen


def _own_words(config: dict[str, Any]) -> dict[str, Any]:
    given = config.get(_OURS)
    return {name: given[name] for name in _WITHOUT_WORD if name in given} if isinstance(given, dict) else {}


def _build(given: dict[str, Any], file: Path) -> ModelConfig:
    try:
        return ModelConfig(**given | {"patch_size": tuple(given.get("patch_size", (1, 2, 2)))})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} describes no transformer: {error}") from error


def described(config: ModelConfig) -> dict[str, Any]:
    """The content of our own `config.json`."""
    return {"_class_name": OUR_CLASS, **asdict(config)}


def described_for_diffusers(config: ModelConfig) -> dict[str, Any]:
    """The content of the `config.json` of a diffusers transformer.

    Raises:
        ValueError: If diffusers cannot express the config.
    """
    _check_words(config, "diffusers", qk_norm=True)
    skyreels = config.fps_embedding or config.native_mode == "overlap"
    same = ("num_layers", "ffn_dim", "in_channels", "out_channels", "text_dim", "freq_dim", "cross_attn_norm", "eps")
    words = {name: getattr(config, name) for name in same} | {
        "_class_name": "SkyReelsV2Transformer3DModel" if skyreels else "WanTransformer3DModel",
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.head_dim,
        "patch_size": list(config.patch_size),
        "qk_norm": "rms_norm_across_heads",
        "image_dim": config.image_dim,
        "added_kv_proj_dim": None if config.image_dim is None else config.dim,
        "pos_embed_seq_len": config.image_length,
        "rope_max_seq_len": 1024,
        _OURS: {name: getattr(config, name) for name in _WITHOUT_WORD},
    }
    return words | ({"inject_sample_info": config.fps_embedding, "num_frame_per_block": 1} if skyreels else {})


def described_for_wan(config: ModelConfig) -> dict[str, Any]:
    """The content of `config.json` in the words of Wan's own code.

    Raises:
        ValueError: If Wan's code cannot express the config.
    """
    _check_words(config, "wan")
    task = "t2v" if config.image_dim is None else "i2v" if config.image_length is None else "flf2v"
    return {
        "_class_name": "CausalWanModel" if config.native_mode == "cached" else "WanModel",
        "model_type": task,
        "dim": config.dim,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "ffn_dim": config.ffn_dim,
        "in_dim": config.in_channels,
        "out_dim": config.out_channels,
        "freq_dim": config.freq_dim,
        "text_dim": config.text_dim,
        "text_len": config.text_length,
        "patch_size": list(config.patch_size),
        "eps": config.eps,
        "qk_norm": config.qk_norm,
        "cross_attn_norm": config.cross_attn_norm,
        "inject_sample_info": config.fps_embedding,
        _OURS: {name: getattr(config, name) for name in _WITHOUT_WORD},
    }


def _check_words(config: ModelConfig, style: str, **only: Any) -> None:
    for name, value in (("rope_theta", 10000.0), *only.items()):
        if getattr(config, name) != value:
            raise ValueError(
                f"{name} is {getattr(config, name)}; the format {style!r} knows {value} only: save it as 'bdiff'"
            )
