"""Checkpoints of other families, which are refused by name before a list of names that do not fit would be."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bdiff_core.checkpoint.lora_keys import LORA_ENTRY, is_of_lora
from bdiff_core.checkpoint.names import plain_name
from bdiff_core.checkpoint.tensors import TensorFile
from bdiff_core.config import ModelConfig
from bdiff_core.files.reading import visible

_EXPECTED = "expected a transformer of Wan 2.1 or SkyReels-V2, or one trained from these, such as Self-Forcing"
_OMNIMEM = "OmniMem (CausalWanNSAModel), whose attention has gates and blocks that none here has"
_MAGI = "MAGI-1 (videodit_blocks), another architecture"
_BY_CLASS = {"CausalWanNSAModel": _OMNIMEM, "VideoDiTModel": _MAGI, "Magi1Transformer3DModel": _MAGI}
_BY_NAME = {
    _OMNIMEM: re.compile(r"blocks\.\d+\.self_attn\.g_proj\."),
    _MAGI: re.compile(r"videodit_blocks\."),
}
# What Transformer Engine keeps beside its weights, the names of modules that only it has, and what LongLive 2.0 calls
# a file of them.
_ENGINE = re.compile(r"(?:^|\.)_extra_state$|\.layernorm_(?:linear|mlp|qkv)\.")
_ENGINE_FORMAT = "longlive_generator_te_nvfp4"
_EXPERT_FOLDER = re.compile(r"(?:high|low)_noise(?:_model)?", re.IGNORECASE)
_EXPERT = re.compile(
    r"(?:^|[._-])(high|low)[._-]?noise(?:[._-]|$)|wan2[._]2.*[._-](high|low)(?:[._-]|$)", re.IGNORECASE
)
_CHANNELS_OF_WAN_2_2 = 48


def refuse_class(kind: object, path: Path) -> None:
    """Refuse the class that a `config.json` names.

    Raises:
        ValueError: If it is of a family that is known and not read.
    """
    if isinstance(kind, str) and kind in _BY_CLASS:
        raise ValueError(_is_of(path, _BY_CLASS[kind]))


def refuse_names(files: Sequence[TensorFile], path: Path) -> None:
    """Refuse the names of stored tensors, or what their file says of them.

    Args:
        files: The files of the checkpoint.
        path: The file or folder.

    Raises:
        ValueError: If they are those of a family that is known and not read, or of a LoRA alone.
    """
    names = [plain_name(name) for file in files for name in file.tensors]
    shown = next((name for name in names if _ENGINE.search(name)), None)
    if files[0].metadata.get("checkpoint_format") == _ENGINE_FORMAT:
        shown = f"checkpoint_format {_ENGINE_FORMAT}"
    if shown is not None:
        raise ValueError(
            f"{path} holds the modules of Transformer Engine ({shown}), which are not read here; take the file of the "
            "same model in bfloat16, such as model_bf16.pt of LongLive 2.0"
        )
    for family, pattern in _BY_NAME.items():
        if any(map(pattern.match, names)):
            raise ValueError(_is_of(path, family))
    alone = not names and LORA_ENTRY in files[0].groups
    if alone or any(name.endswith(".weight") and is_of_lora(name) for name in names):
        raise ValueError(
            f"{path} is a LoRA, which changes a transformer and is none; name the transformer, and this file with "
            "--lora of bdiff convert (`loras` in Python)"
        )


def refuse_two(path: Path, index: Mapping[str, Any]) -> None:
    """Refuse a place of two transformers, each for a part of the noise levels, or of one of the two.

    Args:
        path: The file or folder; its name tells the two apart.
        index: Content of the `model_index.json` of the pipeline around it.

    Raises:
        ValueError: If it is such a place.
    """
    inside = [file.name for file in visible(path)] if path.is_dir() and not (path / "config.json").is_file() else []
    experts = {(found[1] or found[2]).lower() for name in inside if (found := _EXPERT.search(name))}
    if len(experts) == 2 or any(index.get("transformer_2") or ()) or index.get("boundary_ratio") is not None:
        folder = path.parent if index and path.name.startswith("transformer") else path
        raise ValueError(
            f"{folder} has two transformers, as Wan 2.2 does; expected a pipeline of Wan 2.1 or SkyReels-V2"
        )
    whole = path.absolute()
    if _EXPERT.search(whole.name) or (whole.is_file() and _EXPERT_FOLDER.fullmatch(whole.parent.name)):
        raise ValueError(
            f"{path} is by its name one of the two transformers of Wan 2.2, which are not read here; {_EXPECTED}; "
            "if it is such a one, rename it"
        )


def refuse_channels(config: ModelConfig, path: Path) -> None:
    """Refuse the channels of Wan 2.2, unless the transformer makes videos chunk by chunk, as that of LongLive 2.0.

    Raises:
        ValueError: If it takes and gives that many.
    """
    if config.in_channels == config.out_channels == _CHANNELS_OF_WAN_2_2 and config.native_mode != "cached":
        raise ValueError(
            f"{path} is a transformer of Wan 2.2 ({_CHANNELS_OF_WAN_2_2} channels), whose autoencoder is not read "
            f"here; {_EXPECTED}"
        )


def _is_of(path: Path, family: str) -> str:
    return f"{path} is a transformer of {family}, and is not read here; {_EXPECTED}"
