"""Attention over video tokens and over text."""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_core.attention.view import Attend, View
from bdiff_core.config import ModelConfig
from bdiff_core.context import ContextLayer
from bdiff_core.linear import Linear
from bdiff_core.rope import rotate


@dataclass(frozen=True, kw_only=True, slots=True)
class TextKV:
    """One layer's keys and values of the prompts, and of the image tokens if there are any."""

    key: Float[Tensor, "prompts heads n dh"]
    value: Float[Tensor, "prompts heads n dh"]
    image_key: Float[Tensor, "b heads m dh"] | None = None
    image_value: Float[Tensor, "b heads m dh"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextStates:
    """Prompts (and image tokens) as the cross attention of every layer sees them: made once, used for all steps."""

    layers: tuple[TextKV, ...]
    num_prompts: int
    """Prompts a video: 1, or one for each chunk."""


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
        self, q: Tensor, k: Tensor, v: Tensor, *, view: View, past: ContextLayer | None
    ) -> Float[Tensor, "b n d"]:
        """Rotate, attend and mix the heads."""
        q, k = rotate(q, view.cos, view.sin), rotate(k, view.cos, view.sin)
        if past is not None:
            k, v = past.extend(k, v)
        y = view.attend(q, k, v, view)
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
        """Attend to the prompts; with several prompts a video, each is seen by its equal share of the tokens."""
        q = self.norm_q(self.q(x))
        prompts = states.key.shape[0] // x.shape[0]
        chunked = rearrange(q, "b (c n) (h d) -> (b c) h n d", c=prompts, h=self.num_heads)
        y = attend(chunked, states.key, states.value, None)
        y = rearrange(y, "(b c) h n d -> b (c n) (h d)", c=prompts)
        if states.image_key is not None and states.image_value is not None:
            z = attend(self._split(q), states.image_key, states.image_value, None)
            y = y + rearrange(z, "b h n d -> b n (h d)")
        return self.out(y)

    def _split(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n dh"]:
        return rearrange(x, "b n (h d) -> b h n d", h=self.num_heads)
