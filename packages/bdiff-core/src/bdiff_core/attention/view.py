"""What the tokens of one pass see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

BlockMask = Any
"""A `BlockMask` of torch's FlexAttention; importing its module may load torch's compiler, which takes seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What the tokens of one pass see: made once at the top of the pass and the same for all its layers.

    The keys of a layer are those of earlier chunks, which every token sees, followed by those of the pass itself. The
    other fields say which of the latter a token sees. Without `chunk_tokens` it sees all of them.
    """

    cos: Float[Tensor, "b 1 n pairs"]
    """Cosine of the rotary angles: where each token sits."""
    sin: Float[Tensor, "b 1 n pairs"]
    """Sine of the rotary angles."""
    attend: "Attend"
    """The attention kernel."""
    chunk_tokens: int | None = None
    """Tokens of one chunk. Without a mask, a token sees its own chunk and the chunks before it."""
    mask: Float[Tensor, "b 1 n n"] | None = None
    """For gathered chunks: added to the scores, 0 where a token (third axis) sees a key and -inf where it does not."""
    num_shared: int | None = None
    """For gathered chunks: how many of them, in front, other chunks may see; each later one is seen by itself alone.
    None: not counted."""
    block_masks: Mapping[int, BlockMask] = field(default_factory=dict)
    """For FlexAttention: the keys to skip, by the number of keys of earlier chunks."""


Attend = Callable[[Tensor, Tensor, Tensor, View | None], Tensor]
"""An attention kernel: `attend(query, key, value, view)`, all `[b heads n dh]`; without a view all keys are seen."""
