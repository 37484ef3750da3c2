"""Attention kernels: functions that give the same numbers up to rounding, each by another library or method."""

import functools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bdiff_core.attention.scores import scored_attention, scored_gather
from bdiff_core.attention.view import BlockMask, View

HALF = (torch.bfloat16, torch.float16)
"""Half-precision dtypes."""


def sdpa(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    view: View | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by torch's `scaled_dot_product_attention`, or by `scores` where the gradient of torch's is slow."""
    slow = q.device.type == "cpu" and q.dtype in HALF and _needs_gradients(q, k, v)
    attend = scored_attention if slow else F.scaled_dot_product_attention
    if view is None or view.mask is None:
        return _by_chunk(attend, q, k, v, view)
    if slow and view.num_shared is not None and view.chunk_tokens is not None:
        return scored_gather(q, k, v, view.mask, num_shared=view.num_shared, num_tokens=view.chunk_tokens)
    return attend(q, k, v, view.mask)


def flex(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    view: View | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by torch's FlexAttention: one kernel for all chunks of a pass, which skips the keys that none sees.

    Raises:
        ValueError: If gradients are needed on the CPU, where FlexAttention has none.
    """
    if q.device.type == "cpu" and _needs_gradients(q, k, v):
        raise ValueError("attention 'flex' has no gradients on the CPU: run under torch.no_grad(), or take 'sdpa'")
    kernel = _flex_kernel(dynamic=view is None or view.mask is None)
    block_mask = None
    if view is not None and _skips_keys(view):
        block_mask = view.block_masks[k.shape[2] - q.shape[2]]
    return kernel(q, k, v, block_mask=block_mask)


def xformers(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    view: View | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by xformers' memory-efficient kernels."""
    from xformers.ops import memory_efficient_attention

    bias, (heads, width) = None, (q.shape[1], q.shape[3])
    if view is not None and view.mask is not None:
        keys = view.mask.shape[3]
        bias = _widened(view.mask.to(q.dtype))[..., :keys].expand(-1, heads, -1, -1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_widened(y.transpose(1, 2)) for y in (q, k, v))
        y = memory_efficient_attention(q, k, v, attn_bias=bias, scale=width**-0.5)
        return y[..., :width].transpose(1, 2)

    return attend(q, k, v) if bias is not None else _by_chunk(attend, q, k, v, view)


def flash(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    view: View | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by flash-attn.

    Raises:
        ValueError: If the pass has a mask, as a pass over gathered chunks has: flash-attn takes none.
    """
    if view is not None and view.mask is not None:
        raise ValueError(
            "attention 'flash' takes no mask, which gathered chunks (training) need: take 'sdpa', 'flex' or 'xformers'"
        )
    from flash_attn.flash_attn_interface import flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y: Tensor = flash_attn_func(*(y.transpose(1, 2) for y in (q, k, v)))
        return y.transpose(1, 2)

    return _by_chunk(attend, q, k, v, view)


def flex_block_masks(view: View, past_lengths: Iterable[int]) -> dict[int, BlockMask]:
    """The keys that FlexAttention may skip in a pass, one mask for each number of keys of earlier chunks."""
    from torch.nn.attention.flex_attention import create_block_mask

    if not _skips_keys(view):
        return {}
    mask, queries, device = view.mask, view.cos.shape[2], view.cos.device
    masks: dict[int, BlockMask] = {}
    for length in sorted(set(past_lengths)):
        if mask is None:
            # As tensors they are data of the kernel; as numbers each would be a kernel of its own.
            chunk, past = (torch.tensor(number, device=device) for number in (view.chunk_tokens, length))
            seen, batch = _seen_by_chunk(chunk, past), None
        else:
            seen, batch = _seen_by_mask(mask), mask.shape[0]
        masks[length] = create_block_mask(seen, B=batch, H=None, Q_LEN=queries, KV_LEN=length + queries, device=device)
    return masks


def _seen_by_chunk(chunk: Tensor, past: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    return lambda b, h, query, key: key < past + (query // chunk + 1) * chunk


def _seen_by_mask(mask: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    return lambda b, h, query, key: mask[b, 0, query, key] == 0


def _skips_keys(view: View) -> bool:
    """Whether there are keys that a token does not see."""
    return view.mask is not None or view.chunk_tokens not in (None, view.cos.shape[2])


@functools.cache
def _flex_kernel(*, dynamic: bool) -> Callable[..., Tensor]:
    """FlexAttention, compiled once for all lengths (`dynamic`) or for each length.

    Contexts grow, and each length would be compiled anew. Masks belong to training, where all passes have one length;
    and torch 2.13 cannot compile masks of any length on the CPU.
    """
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=dynamic)


def _needs_gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _by_chunk(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor, view: View | None
) -> Tensor:
    """Attention without a mask: chunk by chunk, so that no score is computed only to be hidden."""
    chunk_tokens = None if view is None else view.chunk_tokens
    if chunk_tokens is None or q.shape[2] == chunk_tokens:
        return attend(q, k, v)
    rows, num_past = [], k.shape[2] - q.shape[2]
    for end in range(chunk_tokens, q.shape[2] + 1, chunk_tokens):
        row, seen = q[:, :, end - chunk_tokens : end], num_past + end
        rows.append(attend(row, k[:, :, :seen], v[:, :, :seen]))
    return torch.cat(rows, dim=2)


def _widened(x: Tensor) -> Tensor:
    """Zeros behind each row, so that every row begins at a multiple of 8 numbers, as the kernels of xformers want."""
    missing = -x.shape[-1] % 8
    return F.pad(x, (0, missing)) if missing else x
