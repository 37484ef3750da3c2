"""Attention that keeps its scores in memory, so that its gradient consists of matrix products.

In half precision on a CPU torch's own kernel is faster in the forward pass. Its gradient is slower than these matrix
products: it takes twice as long for the tokens of a training step and ten times as long for its prompts.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def scored_attention(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads m dh"],
    v: Float[Tensor, "b heads m dh"],
    mask: Float[Tensor, "b 1 n m"] | None = None,
) -> Float[Tensor, "b heads n dh"]:
    """Softmax of the scores plus the mask, times the values."""
    return torch.softmax(_scores(q, k, mask), dim=-1) @ v


def scored_gather(
    q: Float[Tensor, "b heads n dh"],
    k: Float[Tensor, "b heads n dh"],
    v: Float[Tensor, "b heads n dh"],
    mask: Float[Tensor, "b 1 n n"],
    *,
    num_shared: int,
    num_tokens: int,
) -> Float[Tensor, "b heads n dh"]:
    """The same attention without computing the scores that a `Gather` hides: more than half of a training step's.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: Added to the scores.
        num_shared: Chunks in front that other chunks may see; each later one is seen by itself alone.
        num_tokens: Tokens of a chunk.
    """
    shared = num_shared * num_tokens
    (q_front, q_back), (k_front, k_back), (v_front, v_back) = (y.tensor_split((shared,), dim=2) for y in (q, k, v))
    front = scored_attention(q_front, k_front, v_front, mask[:, :, :shared, :shared])
    q_own, k_own, v_own = (y.unflatten(2, (-1, num_tokens)) for y in (q_back, k_back, v_back))
    past = _scores(q_back, k_front, mask[:, :, shared:, :shared])
    own = _scores(q_own, k_own).flatten(2, 3)
    weight_past, weight_own = torch.softmax(torch.cat((past, own), dim=-1), dim=-1).tensor_split((shared,), dim=-1)
    back = weight_past @ v_front + (weight_own.unflatten(2, (-1, num_tokens)) @ v_own).flatten(2, 3)
    return torch.cat((front, back), dim=2)


def _scores(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores if mask is None else scores + mask
