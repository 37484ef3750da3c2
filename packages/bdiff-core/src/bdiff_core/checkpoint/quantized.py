"""Quantised weights: floats of 8 bits with a scale beside them become plain numbers; other kinds are refused by name.

The scales are those of ComfyUI and of the tools around it: one number for a weight, one for each row, or one for each
row and group of columns. A weight is its 8-bit number times its scale.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bdiff_core.checkpoint.tensors import StoredTensor

_FLOATS_OF_8_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
_WHOLE_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_SCALES = (".weight.scale_weight", ".scale_weight", ".weight_scale", ".weight.scale", ".scale_weight_tensor")
# Scales of activations, which are not quantised here, and marks that a file is scaled.
_WITHOUT_USE = re.compile(r"(?:\.(?:weight\.)?(?:scale_input|input_scale)|(?:^|\.)scaled_fp8)$")
_LAYOUT = ".comfy_quant"  # a few words of JSON
_READ_LAYOUTS = ("float8_e4m3fn", "float8_e5m2")
# Names of tensors that belong to weights of other kinds.
_OTHERS = {
    "4 bits of bitsandbytes": re.compile(
        r"\.(?:absmax|quant_map|nested_absmax|nested_quant_map)$|\.quant_state\.bitsandbytes__|\.weight_format$"
    ),
    "8 bits of bitsandbytes": re.compile(r"\.SCB$"),
    "GPTQ, AWQ or Nunchaku": re.compile(r"\.(?:qweight|qzeros|g_idx|wscales|wzeros|smooth_factor)$"),
    "optimum-quanto": re.compile(r"\.weight\.(?:_data|_scale|_shift|_packed)$|\.weight_qtype$"),
    "floats of 8 bits in blocks": re.compile(r"\.weight_scale_inv$"),
    "NVFP4 of FourOverSix": re.compile(r"\.quantized_weight_(?:values|scale_factors|amax|metadata)$"),
    "floats of 4 bits": re.compile(r"\.weight_scale_2$|\.weight_global_scale$"),
    "compressed-tensors": re.compile(r"\.weight_(?:packed|shape|zero_point)$"),
}


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A weight of 8 bits and the scales that it is multiplied by."""

    weight: StoredTensor
    scales: tuple[StoredTensor, ...]

    @property
    def file(self) -> Path:
        return self.weight.file

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    @property
    def read_dtype(self) -> torch.dtype:
        return torch.bfloat16

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    def read(self) -> Tensor:
        out = torch.empty(self.shape, dtype=torch.float32)
        self.read_into(out)
        return out

    def read_into(self, out: Tensor) -> None:
        numbers = self.weight.read().float()
        for scale in (stored.read().float() for stored in self.scales):
            columns = max(1, scale.numel() // numbers.shape[0]) if scale.numel() > 1 else 1
            groups = numbers.view(numbers.shape[0] if scale.numel() > 1 else 1, columns, -1)
            groups.mul_(scale.reshape(groups.shape[0], columns, 1))
        out.copy_(numbers.view(out.shape))


def plain_weights(tensors: Mapping[str, StoredTensor], source: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint, in which scales are part of the weights that they belong to.

    Args:
        tensors: The stored tensors, by name.
        source: Their file or folder, for errors.

    Raises:
        ValueError: If weights are quantised in a way that is not read, or a scale fits none.
    """
    for kind, pattern in _OTHERS.items():
        if (name := next((name for name in tensors if pattern.search(name)), None)) is not None:
            raise ValueError(_refusal(source, kind, name))
    scales: dict[str, list[StoredTensor]] = {}
    plain: dict[str, StoredTensor] = {}
    for name, stored in tensors.items():
        ending = next((ending for ending in _SCALES if name.endswith(ending)), None)
        if name.endswith(_LAYOUT):
            _check_layout(name, stored, source)
        elif ending is not None and (weight := f"{name.removesuffix(ending)}.weight") in tensors:
            if _is_one(stored) and tensors[weight].dtype in _WHOLE_FLOATS:
                continue  # some tools put a scale beside every weight, also beside those that they left as they were
            _check_scale(name, stored, weight, tensors[weight], source)
            scales.setdefault(weight, []).append(stored)
        elif not _WITHOUT_USE.search(name):
            plain[name] = stored
    return plain | {weight: _Scaled(plain[weight], tuple(found)) for weight, found in scales.items()}


def _is_one(scale: StoredTensor) -> bool:
    return torch.Size(scale.shape).numel() == 1 and scale.read().item() == 1


def _check_layout(name: str, stored: StoredTensor, source: Path) -> None:
    """Refuse a layer whose own description names another kind."""
    try:
        told = json.loads(bytes(stored.read().flatten().to(torch.uint8).tolist()))
        layout = str(told["format"])
    except (ValueError, KeyError, TypeError):
        layout = "an unknown layout"
    if layout not in _READ_LAYOUTS:
        raise ValueError(_refusal(source, layout, name))


def _check_scale(name: str, scale: StoredTensor, of: str, weight: StoredTensor, source: Path) -> None:
    if weight.dtype not in _FLOATS_OF_8_BITS:
        kind = str(weight.dtype).removeprefix("torch.")
        raise ValueError(_refusal(source, f"{kind} with a scale", of))
    rows, columns = weight.shape[0] if weight.shape else 1, torch.Size(weight.shape[1:]).numel()
    shape = tuple(size for size in scale.shape if size != 1)
    known = not shape or shape == (rows,)
    if len(shape) == 2 or (rows == 1 and len(shape) == 1):
        known = known or (shape[:-1] in ((rows,), ()) and columns % shape[-1] == 0)
    if not known or not scale.dtype.is_floating_point:
        raise ValueError(
            f"{source}: {name} is {scale.shape} {str(scale.dtype).removeprefix('torch.')}; expected one number, or one "
            f"for each of {rows} rows, or one for each row and group of its {columns} columns"
        )


def _refusal(source: Path, kind: str, name: str) -> str:
    return (
        f"{source} holds weights quantised as {kind} ({name}), which are not read here; take the file of the same "
        "model in bfloat16, float16, or float8 with or without scales"
    )
