"""Keys and values in 8 or 4 bits: keys by head and channel, values by token and head (the layout of KIVI).

Keys have channels that are large throughout, values have tokens that are, so each gets a scale along the axis on which
it is uniform.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kvbank.recall import LayerKV


@dataclass(frozen=True, slots=True, eq=False)
class PackedLayer:
    """Keys and values of one layer as `Int8`, `Float8` or `Int4` store them; the numbers are codes, not values."""

    format: "Int8 | Int4 | Float8"
    """The format that packed it and unpacks it."""
    key: UInt8[Tensor, "branches heads tokens bytes"]
    """Codes of the keys; two per byte in `Int4`."""
    key_scale: Float[Tensor, "branches heads groups dh"]
    """Step between two codes, for each head, channel and group of tokens; its dtype is that of the layer."""
    key_offset: Float[Tensor, "branches heads groups dh"]
    """Middle of the range of codes."""
    value: UInt8[Tensor, "branches heads tokens bytes"]
    """Codes of the values."""
    value_scale: Float[Tensor, "branches heads tokens 1"]
    """Step between two codes, for each token and head."""
    value_offset: Float[Tensor, "branches heads tokens 1"]
    """Middle of the range of codes."""
    position: Int[Tensor, "tokens 3"]
    """Position (t, h, w) of each token, int32."""

    @property
    def num_tokens(self) -> int:
        """Tokens in this layer."""
        return self.position.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales, offsets and positions."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are stored, by name."""
        return {name: getattr(self, name) for name in TENSORS}

    def unpacked_key(self) -> Float[Tensor, "branches heads tokens dh"]:
        """The keys alone, in the dtype they came in."""
        branches, heads, _, dh = self.key_scale.shape
        key = self.key_scale.new_empty((branches, heads, self.num_tokens, dh))
        self.format.unpack_into(key, self.key, self.key_scale, self.key_offset)
        return key

    def write_into(
        self,
        key: Float[Tensor, "branches heads shown dh"],
        value: Float[Tensor, "branches heads shown dh"],
        tokens: Int[Tensor, " shown"] | None,
    ) -> None:
        """Unpack some tokens (None: all) into `key` and `value`."""
        self.format.unpack_into(key, self.key, self.key_scale, self.key_offset, tokens)
        self.format.unpack_into(value, self.value, self.value_scale, self.value_offset, tokens)


TENSORS = ("key", "key_scale", "key_offset", "value", "value_scale", "value_offset", "position")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Codes:
    """The common part of all formats: codes of one or half a byte, with a scale and an offset for each group."""

    group: int | None = None
    """Consecutive tokens that share the scale of a key channel; None: all stored tokens of the chunk."""

    def __post_init__(self) -> None:
        if self.group is not None and self.group < 1:
            raise ValueError(f"group is {self.group}; expected at least 1 token, or None for all tokens of a chunk")

    def pack(self, layer: LayerKV) -> PackedLayer:
        """The layer in codes, without its queries.

        Raises:
            ValueError: If keys or values hold NaN or infinity, or need gradients, which codes cannot carry.
        """
        if torch.is_grad_enabled() and (layer.key.requires_grad or layer.value.requires_grad):
            raise ValueError(f"{self} carries no gradients; write under torch.no_grad(), or without quantization")
        key, value = layer.key.detach(), layer.value.detach()
        # One group is all tokens, which may be more or fewer in another chunk.
        ranges = [part.aminmax(dim=2, keepdim=True) for part in key.split(self.group or max(1, key.shape[2]), dim=2)]
        key_scale, key_offset = self._steps(
            torch.cat([each.min for each in ranges], 2), torch.cat([each.max for each in ranges], 2), "key"
        )
        value_scale, value_offset = self._steps(*value.aminmax(dim=3, keepdim=True), "value")
        return PackedLayer(
            format=cast("Quantization", self),
            key=self._codes(key, self._per_token(key_scale, key), self._per_token(key_offset, key)),
            key_scale=key_scale,
            key_offset=key_offset,
            value=self._codes(value, value_scale, value_offset),
            value_scale=value_scale,
            value_offset=value_offset,
            position=layer.position.int(),
        )

    def unpack_into(
        self,
        out: Float[Tensor, "branches heads shown dh"],
        codes: UInt8[Tensor, "branches heads tokens bytes"],
        scale: Float[Tensor, "branches heads groups #dh"],
        offset: Float[Tensor, "branches heads groups #dh"],
        tokens: Int[Tensor, " shown"] | None = None,
    ) -> None:
        """Unpack some tokens (None: all) into `out`, which is also the working memory."""
        scale, offset = (self._per_token(each, codes, tokens) for each in (scale, offset))
        self._decode(out, codes if tokens is None else codes.index_select(2, tokens), scale, offset)

    def _decode(self, out: Tensor, codes: Tensor, scale: Tensor, offset: Tensor) -> None:
        raise NotImplementedError

    def _steps(self, low: Tensor, high: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Scale and offset in the dtype of the layer, rounded before codes are made with them."""
        raise NotImplementedError

    def _codes(self, x: Tensor, scale: Tensor, offset: Tensor) -> UInt8[Tensor, "branches heads tokens bytes"]:
        raise NotImplementedError

    def _check_finite(self, reach: Tensor, name: str, dtype: torch.dtype) -> None:
        if not bool(torch.isfinite(reach).all()):
            raise ValueError(f"{name} holds NaN, infinity or a range beyond {dtype}; {self} needs finite numbers")

    def _per_token(self, steps: Tensor, like: Tensor, tokens: Tensor | None = None) -> Tensor:
        """One step for each token, where they differ between tokens."""
        count = like.shape[2]
        if steps.shape[2] == count:  # of values, or of keys in groups of one
            return steps if tokens is None else steps.index_select(2, tokens)
        if steps.shape[2] == 1:
            return steps
        tokens = torch.arange(count, device=steps.device) if tokens is None else tokens
        assert self.group is not None  # else there is one step for all tokens
        return steps.index_select(2, tokens // self.group)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Integers(_Codes):
    """Evenly spaced codes between the smallest and the largest number that share a scale."""

    bits: ClassVar[int]

    def _decode(self, out: Tensor, codes: Tensor, scale: Tensor, offset: Tensor) -> None:
        if self.bits == 4:
            width = codes.shape[3]
            out[..., :width] = codes & 15
            out[..., width:] = (codes >> 4)[..., : out.shape[3] - width]
        else:
            out.copy_(codes)
        # (code - half) * step is exact in bfloat16 up to the product, so nothing is lost beyond the rounding to it.
        torch.addcmul(offset, out.sub_(self._half), scale, out=out)

    @property
    def _half(self) -> float:
        return (2**self.bits - 1) / 2

    def _steps(self, low: Tensor, high: Tensor, name: str) -> tuple[Tensor, Tensor]:
        work = torch.promote_types(low.dtype, torch.float32)
        offset = ((low.to(work) + high.to(work)) / 2).to(low.dtype)
        reach = torch.maximum(high.to(work) - offset.to(work), offset.to(work) - low.to(work))
        self._check_finite(reach, name, low.dtype)
        return (reach / self._half).to(low.dtype), offset

    def _codes(self, x: Tensor, scale: Tensor, offset: Tensor) -> UInt8[Tensor, "branches heads tokens bytes"]:
        work = torch.promote_types(x.dtype, torch.float32)
        step = scale.to(work)
        step = step.where(step > 0, 1)  # all the same: the offset says it, whatever the code
        codes = (x.to(work) - offset.to(work)).div_(step).add_(self._half).round_()
        codes = codes.clamp_(0, 2**self.bits - 1).to(torch.uint8)
        if self.bits == 8:
            return codes
        width = (x.shape[3] + 1) // 2
        high = torch.nn.functional.pad(codes[..., width:], (0, 2 * width - x.shape[3]))
        return codes[..., :width] | high << 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8(_Integers):
    """Keys and values in 8 bits: a half of bfloat16, and attention over random ones within 1.5%."""

    bits: ClassVar[int] = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Int4(_Integers):
    """Keys and values in 4 bits, two per byte: a bit more than a quarter of bfloat16, and within 20%."""

    group: int | None = 64
    """Consecutive tokens that share the scale of a key channel; None: all stored tokens of the chunk."""

    bits: ClassVar[int] = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Float8(_Codes):
    """Keys and values as floats of 8 bits (e4m3), scaled to their range: as small as `Int8`, attention within 6%.

    Unlike evenly spaced codes these are as exact for a channel's small numbers as for its large ones, which helps where
    few numbers are large. A key channel far from zero throughout keeps only 3 bits of its mean, which `Int8` stores as
    an offset: take that where keys are so. Kernels that multiply in this format can take codes and scales as
    they are. Every device stores it; needs a torch that knows float8_e4m3fn.
    """

    def _steps(self, low: Tensor, high: Tensor, name: str) -> tuple[Tensor, Tensor]:
        reach = torch.maximum(high.abs(), low.abs())
        self._check_finite(reach, name, low.dtype)
        work = torch.promote_types(low.dtype, torch.float32)
        return (reach.to(work) / _FLOAT8_MAX).to(low.dtype), torch.zeros_like(low)

    def _codes(self, x: Tensor, scale: Tensor, offset: Tensor) -> UInt8[Tensor, "branches heads tokens bytes"]:
        work = torch.promote_types(x.dtype, torch.float32)
        step = scale.to(work)
        scaled = x.to(work) / step.where(step > 0, 1)
        # A scale that was rounded down leaves the largest number beyond the format, which would make it NaN.
        return scaled.clamp_(-_FLOAT8_MAX, _FLOAT8_MAX).to(torch.float8_e4m3fn).view(torch.uint8)

    def _decode(self, out: Tensor, codes: Tensor, scale: Tensor, offset: Tensor) -> None:
        torch.addcmul(offset, out.copy_(codes.view(torch.float8_e4m3fn)), scale, out=out)


_FLOAT8_MAX = 448.0
Quantization = Int8 | Int4 | Float8
StoredLayer = LayerKV | PackedLayer
FORMATS: dict[str, type[Int8] | type[Int4] | type[Float8]] = {"Int8": Int8, "Int4": Int4, "Float8": Float8}
