"""Attention kernels: one function each, the same numbers up to rounding, and which of them can run where."""

import functools
import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from bdiff_core.scores import scored_attention, scored_gather


@dataclass(frozen=True, kw_only=True, slots=True)
class GatheredChunks:
    """Which chunks of a `Gather` see each other."""

    visible: Bool[Tensor, "b chunks chunks"]
    """`visible[:, i, j]`: tokens of chunk i attend to tokens of chunk j."""
    num_tokens: int
    """Tokens of a chunk."""

    @property
    def num_shared(self) -> int:
        """Chunks in front that others see; those behind, the noisy copies of training, see what only they see."""
        own = torch.eye(self.visible.shape[1], dtype=torch.bool, device=self.visible.device)
        shared = (self.visible & ~own).flatten(0, 1).any(dim=0).nonzero()
        return int(shared[-1]) + 1 if len(shared) else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Visibility:
    """Which keys the queries of a pass see: all, unless a field says otherwise.

    Keys are those of earlier chunks, which every query sees, followed by those of the pass.
    """

    mask: Float[Tensor, "b 1 n n"] | None = None
    """Added to the scores: 0 where a query (third axis) sees a key, -inf where not."""
    chunk_tokens: int | None = None
    """Tokens of one chunk when chunks see themselves and earlier ones only; None: no such order."""
    gathered: GatheredChunks | None = None
    """Where the mask is that of a `Gather`: whose chunks it is made of."""
    block_masks: dict[int, Any] = field(default_factory=dict)
    """Those of `flex`, made by the first layer that asks, for each number of keys of earlier chunks."""


_HALF = (torch.bfloat16, torch.float16)

Attend = Callable[[Tensor, Tensor, Tensor, Visibility], Tensor]
"""Attention of queries to keys, by `Visibility`; all are `[b heads n dh]`."""


def sdpa(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    visibility: Visibility,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by the kernels of torch, which chooses among its own; where their gradient is slow, see `scores`."""
    mask, chunks = visibility.mask, visibility.gathered
    slow = q.device.type == "cpu" and q.dtype in _HALF and _needs_gradients(q, k, v)
    if slow and mask is not None and chunks is not None:
        return scored_gather(q, k, v, mask, num_shared=chunks.num_shared, num_tokens=chunks.num_tokens)
    attend = scored_attention if slow else F.scaled_dot_product_attention
    if mask is not None:
        return attend(q, k, v, mask)
    return _by_chunk(attend, q, k, v, chunk_tokens=visibility.chunk_tokens)


def flex(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    visibility: Visibility,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by torch's FlexAttention: many chunks, or masked ones, in one kernel that skips what none sees.

    Raises:
        ValueError: If gradients are needed on the CPU, where FlexAttention has none.
    """
    if q.device.type == "cpu" and _needs_gradients(q, k, v):
        raise ValueError("attention 'flex' has no gradients on the CPU: run under torch.no_grad(), or take 'sdpa'")
    kernel = _flex_kernel(dynamic=visibility.mask is None)
    return kernel(q, k, v, block_mask=_block_mask(q, k, visibility))


def xformers(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    visibility: Visibility,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by xformers' memory-efficient kernels."""
    from xformers.ops import memory_efficient_attention

    bias, (heads, width) = None, (q.shape[1], q.shape[3])
    if visibility.mask is not None:
        keys = visibility.mask.shape[3]
        bias = _widened(visibility.mask.to(q.dtype))[..., :keys].expand(-1, heads, -1, -1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_widened(y.transpose(1, 2)) for y in (q, k, v))
        y = memory_efficient_attention(q, k, v, attn_bias=bias, scale=width**-0.5)
        return y[..., :width].transpose(1, 2)

    return _by_chunk(attend, q, k, v, chunk_tokens=visibility.chunk_tokens)


def flash(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    visibility: Visibility,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by flash-attn.

    Raises:
        ValueError: If the pass has a mask, as that of a `Gather`: flash-attn knows none.
    """
    if visibility.mask is not None:
        raise ValueError("attention 'flash' knows no masks, which a gather is: take 'sdpa', 'flex' or 'xformers'")
    from flash_attn.flash_attn_interface import flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash_attn_func(*(y.transpose(1, 2) for y in (q, k, v))).transpose(1, 2)

    return _by_chunk(attend, q, k, v, chunk_tokens=visibility.chunk_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """An attention kernel and what it needs."""

    attend: Attend
    package: str | None = None
    """Module that must be there."""
    install: str | None = None
    """What gets it."""
    devices: tuple[str, ...] | None = None
    """Types of devices that it runs on; None: any."""
    dtypes: tuple[torch.dtype, ...] | None = None
    """What it computes in; None: anything."""
    capability: tuple[int, int] = (0, 0)
    """Least compute capability of a CUDA device."""
    torch: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By type of device: the oldest torch with which it gives the right numbers there; others: any."""
    compilers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By type of device: programs or modules that compile its kernels there, one of them sufficing."""


BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(attend=sdpa),
    "flex": Backend(
        attend=flex,
        devices=("cpu", "cuda"),
        torch={"cpu": (2, 13)},
        compilers={"cpu": ("g++", "clang++", "c++", "cl"), "cuda": ("triton",)},
    ),
    "xformers": Backend(
        attend=xformers,
        package="xformers.ops",
        install="pip install xformers",
        devices=("cuda",),
        dtypes=(torch.float32, torch.float16, torch.bfloat16),
    ),
    "flash": Backend(
        attend=flash,
        package="flash_attn.flash_attn_interface",
        install="pip install flash-attn --no-build-isolation",
        devices=("cuda",),
        dtypes=_HALF,
        capability=(8, 0),
    ),
}
"""Attention kernels by name, see `choose_attention`."""

# Not flex: it compiles its kernels first and has nothing to skip in a pass over one chunk. Who gains by it asks for it.
# In full precision torch has the same kernels as xformers.
_BEST_IN_HALF = ("flash", "xformers", "sdpa")


def choose_attention(name: str, *, device: torch.device, dtype: torch.dtype) -> str:
    """The name of the attention kernel to use, which is then sure to be there.

    Args:
        name: `sdpa`, `flex`, `xformers`, `flash`; or `auto`: in half precision flash or else xformers where they
            can run, otherwise sdpa.
        device: Where the model computes.
        dtype: What it computes in.

    Raises:
        ValueError: If there is no such kernel, or it lacks something here.
    """
    if name == "auto":
        best = _BEST_IN_HALF if dtype in _HALF else ("sdpa",)
        return next(known for known in best if _problem(known, device, dtype) is None)
    if name not in BACKENDS:
        raise ValueError(f"attention is {name!r}; expected one of {', '.join(('auto', *BACKENDS))}")
    if problem := _problem(name, device, dtype):
        raise ValueError(problem)
    return name


def attend_by(name: str, *, device: torch.device, dtype: torch.dtype) -> Attend:
    """The kernel that `choose_attention` found, for a pass.

    Raises:
        ValueError: If the model has since moved to where, or what, the kernel does not compute.
    """
    if problem := _misfit(name, device, dtype):
        raise ValueError(problem)
    return BACKENDS[name].attend


def _misfit(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a kernel is not for a device or a dtype, whatever is installed; None if it is."""
    backend = BACKENDS[name]
    if backend.devices is not None and device.type not in backend.devices:
        return (
            f"attention {name!r} runs on {' or '.join(backend.devices)} and not on {device.type}: "
            "compute there, or take 'sdpa'"
        )
    if backend.dtypes is not None and dtype not in backend.dtypes:
        known = " or ".join(str(known).removeprefix("torch.") for known in backend.dtypes)
        return (
            f"attention {name!r} computes in {known} and not in {str(dtype).removeprefix('torch.')}: "
            "compute in that, or take 'sdpa'"
        )
    return None


def _problem(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """What a kernel lacks here, with the way out; None if nothing."""
    if problem := _misfit(name, device, dtype):
        return problem
    backend = BACKENDS[name]
    if device.type == "cuda" and backend.capability > (has := torch.cuda.get_device_capability(device)):
        least, most = (".".join(map(str, version)) for version in (backend.capability, has))
        return f"attention {name!r} needs a GPU of compute capability {least}, {device} has {most}: take 'sdpa'"
    if (least := backend.torch.get(device.type, (0, 0))) > (has := _torch_version()):
        least, has = (".".join(map(str, version)) for version in (least, has))
        return f"attention {name!r} needs torch {least} on {device.type}, this is {has}: upgrade it, or take 'sdpa'"
    compilers = backend.compilers.get(device.type, ())
    if compilers and not any(shutil.which(compiler) or find_spec(compiler) for compiler in compilers):
        return (
            f"attention {name!r} needs {compilers[0]} to compile its kernels on {device.type}, which is not there: "
            "install it, or take 'sdpa'"
        )
    if backend.package is not None:
        try:
            importlib.import_module(backend.package)
        except ImportError as error:
            reason = str(error).splitlines()[0]
            return f"attention {name!r} cannot be had here, {reason}: {backend.install}, or take 'sdpa'"
    return None


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _needs_gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _by_chunk(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor, *, chunk_tokens: int | None
) -> Tensor:
    """Attention to everything; with chunks row by row, so that no score is computed only to be masked."""
    if chunk_tokens is None or q.shape[2] == chunk_tokens:
        return attend(q, k, v)
    rows, num_past = [], k.shape[2] - q.shape[2]
    for end in range(chunk_tokens, q.shape[2] + 1, chunk_tokens):
        row, seen = q[:, :, end - chunk_tokens : end], num_past + end
        rows.append(attend(row, k[:, :, :seen], v[:, :, :seen]))
    return torch.cat(rows, dim=2)


def _widened(x: Tensor) -> Tensor:
    """With zeros behind, so that each row begins at a multiple of 8, as the kernels of xformers want it."""
    missing = -x.shape[-1] % 8
    return F.pad(x, (0, missing)) if missing else x


@functools.cache
def _flex_kernel(*, dynamic: bool) -> Callable[..., Tensor]:
    """FlexAttention, compiled once for all lengths or for each.

    Contexts grow, and each length would be compiled anew. Masks are those of training, where all passes are alike; a
    mask of any size is what torch 2.13 cannot compile on the CPU.
    """
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=dynamic)


def _block_mask(q: Tensor, k: Tensor, visibility: Visibility) -> Any:
    """What FlexAttention may skip, made once a pass; None: nothing."""
    from torch.nn.attention.flex_attention import create_block_mask

    mask, queries, keys = visibility.mask, q.shape[2], k.shape[2]
    if mask is None and visibility.chunk_tokens in (None, queries):
        return None
    num_past = keys - queries
    if num_past not in visibility.block_masks:
        sizes = {"Q_LEN": queries, "KV_LEN": keys, "device": q.device}
        if mask is None:
            # As tensors they are data of the kernel; as numbers each would be a kernel of its own.
            chunk, past = (torch.tensor(number, device=q.device) for number in (visibility.chunk_tokens, num_past))
            block_mask = create_block_mask(
                lambda b, h, query, key: key < past + (query // chunk + 1) * chunk, B=None, H=None, **sizes
            )
        else:
            block_mask = create_block_mask(
                lambda b, h, query, key: mask[b, 0, query, key] == 0, B=mask.shape[0], H=None, **sizes
            )
        visibility.block_masks[num_past] = block_mask
    return visibility.block_masks[num_past]
