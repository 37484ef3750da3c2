"""Attention over video tokens and over text."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bdiff_core.backends import Attend, Visibility
from bdiff_core.config import ModelConfig
from bdiff_core.context import ContextLayer
from bdiff_core.linear import Linear
from bdiff_core.rope import rotate


@dataclass(frozen=True, kw_only=True, slots=True)
class Gather:
    """Chunks picked from one video for a training step: where each sits and which others it sees.

    The latents of the step hold the chunks one after the other, `frames_per_chunk` frames each.
    """

    slots: Int[Tensor, "b chunks"]
    """Position of each chunk, in chunks; 0 is the chunk that is learned, -1 the one before it."""
    visible: Bool[Tensor, "b chunks chunks"]
    """`visible[:, i, j]`: tokens of chunk i attend to tokens of chunk j. The diagonal is True."""
    keep: Bool[Tensor, "b chunks tokens"] | None = None
    """Tokens that other chunks may see; a chunk always sees all of its own. None: all."""

    def __post_init__(self) -> None:
        if self.visible.shape != (*self.slots.shape, self.slots.shape[1]):
            raise ValueError(
                f"visible is {tuple(self.visible.shape)} and slots {tuple(self.slots.shape)}; "
                "expected (b, chunks, chunks) and (b, chunks)"
            )
        if self.keep is not None and self.keep.shape[:2] != self.slots.shape:
            raise ValueError(f"keep is {tuple(self.keep.shape)}; expected {tuple(self.slots.shape)} + (tokens,)")

    def mask(self, num_tokens: int) -> Bool[Tensor, "b 1 n n"]:
        """Which token attends to which, for `num_tokens` tokens a chunk."""
        visible = self.visible[:, :, None, :, None]
        if self.keep is not None:
            if self.keep.shape[2] != num_tokens:
                raise ValueError(f"keep has {self.keep.shape[2]} tokens a chunk; the latents make {num_tokens}")
            own = torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)[:, None, :, None]
            visible = visible & (self.keep[:, None, None] | own)
        mask = visible.expand(-1, -1, num_tokens, -1, num_tokens)
        return rearrange(mask, "b i m j n -> b 1 (i m) (j n)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What all layers share in one pass: where the tokens sit, which of them see each other, and what attends."""

    cos: Float[Tensor, "b 1 n pairs"]
    sin: Float[Tensor, "b 1 n pairs"]
    attend: Attend
    visibility: Visibility


@dataclass(frozen=True, kw_only=True, slots=True)
class TextKV:
    """One layer's keys and values of the prompts, and of the image tokens if there are any."""

    key: Float[Tensor, "prompts heads n dh"]
    value: Float[Tensor, "prompts heads n dh"]
    image_key: Float[Tensor, "b heads m dh"] | None = None
    image_value: Float[Tensor, "b heads m dh"] | None = None


class HeadsNorm(nn.RMSNorm):
    """RMS norm over all heads together, in float32."""

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch inner"]:
        """Normalise the last axis."""
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).to(x.dtype)


def _heads_norm(config: ModelConfig) -> nn.Module:
    return HeadsNorm(config.dim, eps=config.eps) if config.qk_norm else nn.Identity()


class SelfAttention(nn.Module):
    """Attention among the tokens of a pass and, through a context, to those of earlier chunks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = Linear(config.dim, 3 * config.dim)
        self.norm_q = _heads_norm(config)
        self.norm_k = _heads_norm(config)
        self.out = Linear(config.dim, config.dim)

    def project(self, x: Float[Tensor, "b n d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[b heads n dh]`, normalised and not yet rotated."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = self.norm_q(q), self.norm_k(k)
        return tuple(rearrange(y, "b n (h d) -> b h n d", h=self.num_heads) for y in (q, k, v))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, layout: Layout, past: ContextLayer | None
    ) -> Float[Tensor, "b n d"]:
        """Rotate, attend and mix the heads."""
        q, k = rotate(q, layout.cos, layout.sin), rotate(k, layout.cos, layout.sin)
        if past is not None:
            k, v = past.extend(k, v)
        y = layout.attend(q, k, v, layout.visibility)
        return self.out(rearrange(y, "b h n d -> b n (h d)"))


class CrossAttention(nn.Module):
    """Attention from video tokens to the prompt and, in image-to-video models, to image tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = Linear(config.dim, config.dim)
        self.kv = Linear(config.dim, 2 * config.dim)
        self.norm_q = _heads_norm(config)
        self.norm_k = _heads_norm(config)
        self.out = Linear(config.dim, config.dim)
        if config.image_dim is not None:
            self.image_kv = Linear(config.dim, 2 * config.dim)
            self.norm_image_k = _heads_norm(config)

    def keys_values(self, text: Float[Tensor, "prompts n d"], image: Float[Tensor, "b m d"] | None) -> TextKV:
        """Keys and values of embedded prompts and image tokens."""
        key, value = self.kv(text).chunk(2, dim=-1)
        states = {"key": self._split(self.norm_k(key)), "value": self._split(value)}
        if image is not None:
            key, value = self.image_kv(image).chunk(2, dim=-1)
            states |= {"image_key": self._split(self.norm_image_k(key)), "image_value": self._split(value)}
        return TextKV(**states)

    def forward(self, x: Float[Tensor, "b n d"], states: TextKV, *, attend: Attend) -> Float[Tensor, "b n d"]:
        """Attend; with several prompts a video, each to its equal share of the tokens."""
        everything = Visibility()
        q = self.norm_q(self.q(x))
        prompts = states.key.shape[0] // x.shape[0]
        chunked = rearrange(q, "b (c n) (h d) -> (b c) h n d", c=prompts, h=self.num_heads)
        y = attend(chunked, states.key, states.value, everything)
        y = rearrange(y, "(b c) h n d -> b (c n) (h d)", c=prompts)
        if states.image_key is not None and states.image_value is not None:
            z = attend(self._split(q), states.image_key, states.image_value, everything)
            y = y + rearrange(z, "b h n d -> b n (h d)")
        return self.out(y)

    def _split(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n dh"]:
        return rearrange(x, "b n (h d) -> b h n d", h=self.num_heads)
