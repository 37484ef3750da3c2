"""Attention kernels: one function each, the same numbers up to rounding."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bdiff_core.attention.pass_layout import PassLayout
from bdiff_core.attention.scores import scored_attention, scored_gather

HALF = (torch.bfloat16, torch.float16)
"""Number types of half precision."""


def sdpa(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    layout: PassLayout | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by the kernels of torch, which chooses among its own; where their gradient is slow, see `scores`."""
    slow = q.device.type == "cpu" and q.dtype in HALF and _needs_gradients(q, k, v)
    attend = scored_attention if slow else F.scaled_dot_product_attention
    if layout is None or layout.mask is None:
        return _by_chunk(attend, q, k, v, layout)
    if slow and layout.visible is not None:
        num_tokens = q.shape[2] // layout.visible.shape[1]
        return scored_gather(q, k, v, layout.mask, num_shared=layout.num_shared, num_tokens=num_tokens)
    return attend(q, k, v, layout.mask)


def flex(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    layout: PassLayout | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by torch's FlexAttention: many chunks, or masked ones, in one kernel that skips what none sees.

    Raises:
        ValueError: If gradients are needed on the CPU, where FlexAttention has none.
    """
    if q.device.type == "cpu" and _needs_gradients(q, k, v):
        raise ValueError("attention 'flex' has no gradients on the CPU: run under torch.no_grad(), or take 'sdpa'")
    kernel = _flex_kernel(dynamic=layout is None or layout.mask is None)
    return kernel(q, k, v, block_mask=_block_mask(q, k, layout))


def xformers(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    layout: PassLayout | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by xformers' memory-efficient kernels."""
    from xformers.ops import memory_efficient_attention

    bias, (heads, width) = None, (q.shape[1], q.shape[3])
    if layout is not None and layout.mask is not None:
        keys = layout.mask.shape[3]
        bias = _widened(layout.mask.to(q.dtype))[..., :keys].expand(-1, heads, -1, -1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_widened(y.transpose(1, 2)) for y in (q, k, v))
        y = memory_efficient_attention(q, k, v, attn_bias=bias, scale=width**-0.5)
        return y[..., :width].transpose(1, 2)

    return _by_chunk(attend, q, k, v, layout)


def flash(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    layout: PassLayout | None,
) -> Float[Tensor, "b heads n dh"]:
    """Attention by flash-attn.

    Raises:
        ValueError: If the pass has a mask, as that of a `Gather`: flash-attn knows none.
    """
    if layout is not None and layout.mask is not None:
        raise ValueError("attention 'flash' knows no masks, which a gather is: take 'sdpa', 'flex' or 'xformers'")
    from flash_attn.flash_attn_interface import flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash_attn_func(*(y.transpose(1, 2) for y in (q, k, v))).transpose(1, 2)

    return _by_chunk(attend, q, k, v, layout)


def _needs_gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _by_chunk(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor, layout: PassLayout | None
) -> Tensor:
    """Attention to everything; with chunks row by row, so that no score is computed only to be masked."""
    chunk_tokens = None if layout is None else layout.chunk_tokens
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


def _block_mask(q: Tensor, k: Tensor, layout: PassLayout | None) -> Any:
    """What FlexAttention may skip, made once a pass; None: nothing."""
    from torch.nn.attention.flex_attention import create_block_mask

    queries, keys = q.shape[2], k.shape[2]
    if layout is None or (layout.mask is None and layout.chunk_tokens in (None, queries)):
        return None
    mask = layout.mask
    num_past = keys - queries
    if num_past not in layout.block_masks:
        sizes: dict[str, Any] = {"Q_LEN": queries, "KV_LEN": keys, "device": q.device}
        if mask is None:
            # As tensors they are data of the kernel; as numbers each would be a kernel of its own.
            chunk, past = (torch.tensor(number, device=q.device) for number in (layout.chunk_tokens, num_past))
            block_mask = create_block_mask(
                lambda b, h, query, key: key < past + (query // chunk + 1) * chunk, B=None, H=None, **sizes
            )
        else:
            block_mask = create_block_mask(
                lambda b, h, query, key: mask[b, 0, query, key] == 0, B=mask.shape[0], H=None, **sizes
            )
        layout.block_masks[num_past] = block_mask
    return layout.block_masks[num_past]
