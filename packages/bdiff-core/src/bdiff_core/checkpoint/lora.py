"""LoRAs: what a small file adds to the parameters of a checkpoint."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdiff_core.checkpoint.names import Part, plain_name
from bdiff_core.checkpoint.places import PICKLES, local_path, read_json
from bdiff_core.checkpoint.problems import raise_problems
from bdiff_core.checkpoint.tensors import StoredTensor, TensorFile, read_header, read_pickle

# Names of peft and diffusers (lora_A, lora_B), of Wan's tools (lora_down, lora_up, alpha; diff and diff_b: differences
# of a weight and of a bias), of either with the name of the adapter in between.
_KEY = re.compile(
    r"(?P<module>.+?)\.(?:(?P<kind>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.(?P<end>weight|bias)"
    r"|(?P<other>alpha|diff|diff_b))"
)
_PREFIX = re.compile(r"^(?:(?:base_model|transformer|model|diffusion_model)\.)+")
_FLAT_PREFIX = "lora_unet_"  # followed by the module with _ for every dot
_ROLES = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}
_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_HEADER = "lora_adapter_metadata"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What one LoRA adds to one part of a parameter."""

    scale: float = 1.0
    """Factor on the product of `up` and `down`."""
    up: Tensor | None = None
    """`[outputs, rank ...]`."""
    down: Tensor | None = None
    """`[rank, inputs ...]`."""
    strength: float = 1.0
    """Factor on `whole`."""
    whole: Tensor | None = None
    """A difference in full."""

    def add_to(self, weight: Tensor) -> None:
        """Add it to a float32 tensor with the numbers of the part, in place."""
        if self.up is not None and self.down is not None:
            up, down = (x.to(weight.device, torch.float32).flatten(1) for x in (self.up, self.down))
            weight.view(up.shape[0], -1).addmm_(up, down, alpha=self.scale)
        if self.whole is not None:
            whole = self.whole.to(weight.device, torch.float32).reshape(weight.shape)
            weight.add_(whole, alpha=self.strength)


@dataclass(slots=True)
class _Found:
    """What a file holds for one module."""

    alpha: float | None = None
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    """`down`, `up`, `up_bias`, `diff` and `diff_b`."""


def read_changes(
    path_or_repo: str | Path, strength: float, *, parts: Mapping[str, Part], shapes: Mapping[str, tuple[int, ...]]
) -> dict[Part, Change]:
    """What a LoRA adds to each part of our parameters.

    Args:
        path_or_repo: A file, a folder that diffusers or peft wrote, or a repository of the hub.
        strength: Factor on all of it; 1 as it was trained.
        parts: The part that each name in any foreign style stands for.
        shapes: The shape of what has that name.

    Raises:
        ValueError: If the file is damaged, or holds what fits no parameter.
    """
    file, settings = _open(path_or_repo)
    flat = {name.replace(".", "_"): name for name in parts}
    found: dict[str, _Found] = defaultdict(_Found)
    problems = []
    for key, stored in file.tensors.items():
        match = _KEY.fullmatch(_module_name(key, flat))
        if match is None:
            problems.append(f"unexpected {key}")
            continue
        module = found[match["module"]]
        if match["other"] == "alpha":
            module.alpha = float(stored.read())
        elif match["kind"] is None:
            module.tensors[match["other"]] = stored
        elif (match["end"], _ROLES[match["kind"]]) == ("bias", "down"):
            problems.append(f"unexpected {key}")
        else:
            module.tensors[_ROLES[match["kind"]] + ("_bias" if match["end"] == "bias" else "")] = stored
    changes: dict[Part, Change] = {}
    for name, module in found.items():
        scale = strength * _scale(name, module, settings)
        for target, change in _changes(module, scale=scale, strength=strength).items():
            full = name + target if name + target in parts else name
            if full not in parts:
                problems.append(f"unexpected {name}")
            elif (problem := _problem(name, change, shapes[full])) is not None:
                problems.append(problem)
            else:
                changes[parts[full]] = change
        if ("up" in module.tensors) != ("down" in module.tensors):
            problems.append(f"{name} has one of lora_A and lora_B; expected both")
    raise_problems(problems, f"the LoRA {path_or_repo} does not fit the transformer")
    if not changes:
        raise ValueError(f"{path_or_repo} holds no LoRA: no name like *.lora_A.weight or *.lora_down.weight")
    return changes


def _open(path_or_repo: str | Path) -> tuple[TensorFile, dict[str, Any]]:
    """The tensors, and what peft says of the adapter."""
    path = local_path(path_or_repo)
    settings: dict[str, Any] = {}
    if path.is_dir():
        files = [path / name for name in _FILES if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise ValueError(f"{path} holds {len(files)} LoRA files; expected one: give the file itself")
        if (path / "adapter_config.json").is_file():
            settings = read_json(path / "adapter_config.json")
        path = files[0]
    if path.suffix in PICKLES:
        file = read_pickle(path)
        inner = file.metadata.get("generator_lora")
        return (file if inner is None else read_pickle(path, entry="generator_lora")), settings
    file = read_header(path)
    if _HEADER in file.metadata:
        written = json.loads(file.metadata[_HEADER])
        settings = {name.removeprefix("transformer."): value for name, value in written.items()}
    return file, settings


def _module_name(key: str, flat: Mapping[str, str]) -> str:
    """A key without what tools put in front of the transformer's modules."""
    if not key.startswith(_FLAT_PREFIX):
        return _PREFIX.sub("", plain_name(key), count=1)
    module, _, rest = key.removeprefix(_FLAT_PREFIX).partition(".")
    known = flat.get(f"{module}_weight")
    return f"{known.removesuffix('.weight') if known else module}.{rest}"


def _changes(module: _Found, *, scale: float, strength: float) -> dict[str, Change]:
    """Changes by what follows the module in the name of the parameter."""
    read = {role: stored.read() for role, stored in module.tensors.items()}
    changes = {}
    if {"up", "down"} <= set(read) or "diff" in read:
        whole = {"strength": strength, "whole": read.get("diff")}
        changes[".weight"] = Change(scale=scale, up=read.get("up"), down=read.get("down"), **whole)
    if "diff_b" in read:
        changes[".bias"] = Change(strength=strength, whole=read["diff_b"])
    elif "up_bias" in read:
        changes[".bias"] = Change(strength=scale, whole=read["up_bias"])
    return changes


def _scale(name: str, module: _Found, settings: Mapping[str, Any]) -> float:
    """Alpha over rank; without an alpha, 1, as diffusers and peft take it."""
    if "down" not in module.tensors or not module.tensors["down"].shape:
        return 1.0
    rank = module.tensors["down"].shape[0]
    alpha = module.alpha
    if alpha is None:
        patterns = settings.get("alpha_pattern") or {}
        chosen = (value for pattern, value in patterns.items() if re.fullmatch(rf"(?:.*\.)?{pattern}", name))
        alpha = next(chosen, settings.get("lora_alpha"))
    if alpha is None:
        return 1.0
    return alpha / (rank**0.5 if settings.get("use_rslora") else rank)


def _problem(name: str, change: Change, shape: tuple[int, ...]) -> str | None:
    if change.up is not None and change.down is not None:
        inputs = torch.Size(shape[1:]).numel()
        up, down = tuple(change.up.flatten(1).shape), tuple(change.down.flatten(1).shape)
        if len(shape) < 2 or up[0] != shape[0] or down[1] != inputs or up[1] != down[0]:
            return f"{name}: {up} times {down} is not {(shape[0], inputs)}"
    if change.whole is not None and change.whole.numel() != torch.Size(shape).numel():
        return f"{name} differs by {tuple(change.whole.shape)}, expected {shape}"
    return None
