"""Shape, dtype and device of layers, which must agree between chunks so that they can be concatenated."""

from collections.abc import Sequence

from kvbank.quantization import StoredLayer
from kvbank.recall import LayerKV

Signature = tuple[int, int, int, str, str]
"""Branches, heads, dh, dtype and device of a layer."""


def layer_signature(layer: StoredLayer) -> Signature:
    """The signature of a layer before packing, from a packed layer or a plain one."""
    numbers = layer.key if isinstance(layer, LayerKV) else layer.key_scale
    branches, heads, _, dh = numbers.shape
    return branches, heads, dh, str(numbers.dtype), str(numbers.device)


def checked_signature(
    index: int, layers: Sequence[StoredLayer], before: tuple[Signature, ...]
) -> tuple[Signature, ...]:
    """The signatures of a chunk's layers, checked against those of the chunks before it.

    Args:
        index: Its number, for the message.
        layers: Its layers.
        before: Signatures of the chunks before it; empty if there are none.

    Raises:
        ValueError: If it has no layers or differs from the chunks before it.
    """
    if not layers:
        raise ValueError(f"chunk {index} has no layers; expected the keys and values of each layer")
    signature = tuple(map(layer_signature, layers))
    if before and len(signature) != len(before):
        raise ValueError(f"chunk {index} has {len(signature)} layers; the chunks before it have {len(before)}")
    for number, (new, old) in enumerate(zip(signature, before, strict=False)):
        if new != old:
            raise ValueError(
                f"layer {number} of chunk {index} has (branches, heads, dh, dtype, device) {new}; "
                f"the chunks before it have {old}"
            )
    return signature
