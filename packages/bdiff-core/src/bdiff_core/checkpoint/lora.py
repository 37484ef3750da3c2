"""LoRAs: small files with changes of the parameters of a checkpoint."""

import hashlib
import json
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdiff_core.checkpoint.lora_keys import LORA_ENTRY, Modules, Role, is_of_lora, other_kind
from bdiff_core.checkpoint.names import Part
from bdiff_core.checkpoint.places import local_path
from bdiff_core.checkpoint.problems import raise_problems
from bdiff_core.checkpoint.tensors import StoredTensor, TensorFile, read_tensors
from bdiff_core.files import read_json, visible
from bdiff_core.files.finite import check_finite

logger = logging.getLogger(__name__)

_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_model.bin")
_HEADER = "lora_adapter_metadata"
_MOST = 100.0  # a larger strength is a typing error: the model would no longer matter


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """A file with a LoRA, not read yet."""

    path: Path
    """The file."""
    strength: float
    """Factor on all of it; 1 as it was trained."""
    tensors: Mapping[str, StoredTensor]
    """Its tensors, by name."""
    settings: Mapping[str, Any]
    """Settings of the adapter, as peft writes them."""
    pickled: bool
    """Whether `torch.save` wrote it."""

    @property
    def of_peft(self) -> bool:
        """Whether it holds what peft trained, without the settings that its scale follows from."""
        return not self.settings and (self.pickled or any(name.startswith("base_model.") for name in self.tensors))


@dataclass(slots=True)
class _Found:
    """The tensors of a file for one module."""

    tensors: dict[Role, Tensor] = field(default_factory=dict)


def open_loras(loras: Mapping[str | Path, float]) -> list[Lora]:
    """The files of LoRAs, each of them once.

    Args:
        loras: Files, folders that diffusers or peft wrote, or repositories of the hub, and the strength of each.

    Raises:
        ValueError: If one is no LoRA, a strength makes no sense, or two of them are the same.
    """
    for path, strength in loras.items():
        if not math.isfinite(strength) or not 0 < abs(strength) <= _MOST:
            raise ValueError(
                f"the LoRA {path} is given the strength {strength}; expected a number other than 0, at most "
                f"{_MOST:g} either way: 1 is as it was trained"
            )
    opened: dict[Path, Lora] = {}
    for path, strength in loras.items():
        lora = _open(path, strength)
        for other_path, other in opened.items():
            if _same(lora.path, other.path):
                raise ValueError(
                    f"the LoRA {path} is given twice, also as {other_path}; give it once, with the strength that is "
                    "meant"
                )
        opened[Path(path)] = lora
    return list(opened.values())


def read_changes(
    lora: Lora, *, parts: Mapping[str, Part], shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[Part, Change]]:
    """What a LoRA adds to each part of our parameters.

    Args:
        lora: From `open_loras`.
        parts: The part of a parameter for each name, in any foreign style.
        shapes: The shape for each of these names.

    Raises:
        ValueError: If the file is damaged, or holds a tensor that fits no parameter.
    """
    if (other := other_kind(lora.tensors)) is not None:
        raise ValueError(f"the LoRA {lora.path} {other}")
    if not any(map(is_of_lora, lora.tensors)):
        held = ", ".join(sorted(lora.tensors)[:3]) or "none"
        raise ValueError(
            f"{lora.path} holds no LoRA: no name like *.lora_A.weight or *.lora_down.weight; its tensors are {held} ..."
        )
    found, problems = _by_module(lora, Modules(parts))
    if lora.of_peft and not any("alpha" in module.tensors for module in found.values()):
        logger.warning(
            "the LoRA %s says no alpha: its products are added at scale 1 times the strength, as for an alpha equal to "
            "its rank; for another alpha give alpha / rank as the strength, with rsLoRA alpha / sqrt(rank)",
            lora.path,
        )
    changes: list[tuple[Part, Change]] = []
    owners: dict[Part, str] = {}
    for name, module in found.items():
        if ("up" in module.tensors) != ("down" in module.tensors):
            problems.append(f"{name} has one of lora_A and lora_B; expected both")
            continue
        scale = lora.strength * _scale(name, module, lora.settings)
        for ending, change in _changes(module, scale=scale, strength=lora.strength):
            full = name + ending if name + ending in parts else name
            problem = f"unexpected {name}{ending}" if full not in parts else _problem(name, change, shapes[full])
            if problem is None and owners.setdefault(parts[full], name) != name:
                problem = f"{name} is what {owners[parts[full]]} is, and both are there"
            if problem is None:
                changes.append((parts[full], change))
            else:
                problems.append(problem)
    raise_problems(problems, f"the LoRA {lora.path} does not fit the transformer")
    return changes


def _open(path_or_repo: str | Path, strength: float) -> Lora:
    path = local_path(path_or_repo)
    settings: dict[str, Any] = {}
    if folder := path.is_dir():
        files = [path / name for name in _FILES if (path / name).is_file()][:1] or visible(path, "*.safetensors")
        if len(files) != 1:
            raise ValueError(f"{path} holds {len(files)} LoRA files; expected one: give the file itself")
        path = files[0]
    beside = path.parent / "adapter_config.json"
    if beside.is_file() and (folder or path.name in _FILES):
        settings = read_json(beside)
    file = read_tensors(path)
    if file.pickled and file.metadata.get(LORA_ENTRY) is not None:
        file = read_tensors(path, entry=LORA_ENTRY)
    elif not file.pickled and _HEADER in file.metadata:
        settings = _told(file, path)
    if settings.get("use_dora"):
        raise ValueError(
            f"the LoRA {path} is a DoRA, which is not read here; take a plain LoRA, or merge it where it was made"
        )
    return Lora(path=path, strength=strength, tensors=file.tensors, settings=settings, pickled=file.pickled)


def _told(file: TensorFile, path: Path) -> dict[str, Any]:
    """The adapter's settings that diffusers wrote into the header of its file."""
    try:
        written = json.loads(file.metadata[_HEADER])
        return {name.removeprefix("transformer."): value for name, value in written.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} is damaged: {_HEADER} in its header is no object of JSON") from None


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are the same file, or the files have the same content."""
    if one.resolve() == other.resolve():
        return True
    if one.stat().st_size != other.stat().st_size:
        return False
    digests = []
    for file in (one, other):
        with file.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").digest())
    return digests[0] == digests[1]


def _by_module(lora: Lora, modules: Modules) -> tuple[dict[str, _Found], list[str]]:
    """The tensors for each module, and the problems of the keys."""
    found: dict[str, _Found] = defaultdict(_Found)
    problems = []
    for key, stored in lora.tensors.items():
        meant = modules.find(key)
        if meant is None:
            problems.append(f"unexpected {key}")
            continue
        name, role = meant
        tensor = stored.read()
        check_finite([(key, tensor)], f"the LoRA {lora.path}")
        if role in found[name].tensors:
            problems.append(f"{key} is there twice, as of two adapters")
        elif role == "alpha" and tensor.numel() != 1:
            problems.append(f"{key} is {tuple(tensor.shape)}, expected one number")
        else:
            found[name].tensors[role] = tensor
    return found, problems


def _changes(module: _Found, *, scale: float, strength: float) -> Iterator[tuple[str, Change]]:
    """Changes, each with what follows the module's name in the name of the parameter."""
    read = module.tensors
    if "up" in read or "diff" in read:
        up, down, whole = (read.get(role) for role in ("up", "down", "diff"))
        yield ".weight", Change(scale=scale, up=up, down=down, strength=strength, whole=whole)
    if "diff_b" in read:
        yield ".bias", Change(strength=strength, whole=read["diff_b"])
    if "up_bias" in read:
        yield ".bias", Change(strength=scale, whole=read["up_bias"])


def _scale(name: str, module: _Found, settings: Mapping[str, Any]) -> float:
    """Alpha over rank; without an alpha, 1, as diffusers and peft take it."""
    down = module.tensors.get("down")
    if down is None or not down.ndim or not down.shape[0]:
        return 1.0
    rank = down.shape[0]
    alpha: Any = module.tensors["alpha"].item() if "alpha" in module.tensors else _told_alpha(name, settings)
    if alpha is None:
        return 1.0
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(f"lora_alpha of {name} is {alpha!r}; expected a finite number")
    return float(alpha / (rank**0.5 if settings.get("use_rslora") else rank))


def _told_alpha(name: str, settings: Mapping[str, Any]) -> Any:
    """The alpha of one module in peft's settings; None: it has none."""
    patterns = settings.get("alpha_pattern")
    for pattern, value in (patterns if isinstance(patterns, Mapping) else {}).items():
        try:
            if re.fullmatch(rf"(?:.*\.)?{pattern}", name):
                return value
        except re.error:
            raise ValueError(f"alpha_pattern of the LoRA holds {pattern!r}, which is no pattern") from None
    return settings.get("lora_alpha")


def _problem(name: str, change: Change, shape: tuple[int, ...]) -> str | None:
    if change.up is not None and change.down is not None:
        inputs = torch.Size(shape[1:]).numel()
        if change.up.ndim < 2 or change.down.ndim < 2:
            return f"{name}: {tuple(change.up.shape)} and {tuple(change.down.shape)} are no two matrices"
        up, down = tuple(change.up.flatten(1).shape), tuple(change.down.flatten(1).shape)
        if len(shape) < 2 or up[0] != shape[0] or down[1] != inputs or up[1] != down[0]:
            return f"{name}: {up} times {down} is not {(shape[0], inputs)}"
    if change.whole is not None:
        given = tuple(change.whole.shape)
        if not {_without_ones(given), given} & {_without_ones(shape), (shape[0], torch.Size(shape[1:]).numel())}:
            return f"{name} differs by {given}, expected {shape}"
    return None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
