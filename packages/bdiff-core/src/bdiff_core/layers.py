"""Embeddings, the transformer block and the head of Wan 2.1."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_core.attention.layers import CrossAttention, SelfAttention, TextKV
from bdiff_core.attention.view import View
from bdiff_core.config import ModelConfig
from bdiff_core.context import ContextLayer
from bdiff_core.linear import GELULinear, Linear

_FPS_OF_INDEX_0 = 16

EmbeddedText = tuple[Float[Tensor, "prompts n d"], Float[Tensor, "b m d"] | None]
"""Projected prompts and image tokens."""


def modulated_norm(
    x: Float[Tensor, "b t s d"], shift: Float[Tensor, "b t 1 d"], scale: Float[Tensor, "b t 1 d"], *, eps: float
) -> Float[Tensor, "b t s d"]:
    """Layer norm with the scale and shift of each frame, in float32; the result has the dtype of `x`."""
    normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    return torch.addcmul(shift, normed, 1 + scale).to(x.dtype)


def gated_sum(
    x: Float[Tensor, "b t s d"], gate: Float[Tensor, "b t 1 d"], y: Float[Tensor, "b t s d"]
) -> Float[Tensor, "b t s d"]:
    """`x + gate * y` in float32; the result has the dtype of `x`."""
    return torch.addcmul(x.float(), gate, y.float()).to(x.dtype)


class FloatNorm(nn.LayerNorm):
    """Layer norm with learned scale and shift, in float32."""

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Normalise the last axis; the result has the dtype of `x`."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def _cast(x: Tensor, linear: nn.Linear) -> Tensor:
    return x.to(linear.weight.dtype)


class Patches(nn.Module):
    """Cut latents into tokens; the strided convolution of Wan written as a matrix product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        _, self.rows, self.columns = config.patch_size
        self.project = Linear(config.in_channels * self.rows * self.columns, config.dim)

    def forward(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t s d"]:
        """Tokens, row by row within each frame."""
        x = rearrange(latents, "b c t (h p) (w q) -> b t (h w) (c p q)", p=self.rows, q=self.columns)
        return self.project(_cast(x, self.project))


class TimeEmbedding(nn.Module):
    """Level of each frame -> the embedding for the head, and the six modulations to which each block adds its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.freq_dim = config.freq_dim
        self.fps_index = 0 if config.fps == _FPS_OF_INDEX_0 else 1
        self.hidden = Linear(config.freq_dim, config.dim)
        self.out = Linear(config.dim, config.dim)
        self.modulation = Linear(config.dim, 6 * config.dim)
        self.fps = nn.Embedding(2, config.dim) if config.fps_embedding else None
        if config.fps_embedding:
            self.fps_hidden = Linear(config.dim, config.dim)
            self.fps_out = Linear(config.dim, 6 * config.dim)

    def forward(self, levels: Float[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        """Embed levels in [0, 1]; the published models count them in thousandths."""
        exact = torch.float32 if levels.device.type == "mps" else torch.float64
        half = self.freq_dim // 2
        frequency = 10000.0 ** (-torch.arange(half, dtype=exact, device=levels.device) / half)
        angle = 1000.0 * levels[..., None].to(exact) * frequency
        x = torch.cat((angle.cos(), angle.sin()), dim=-1).float()
        with torch.autocast(levels.device.type, enabled=False):  # half precision would round the level
            x = F.silu(F.linear(x, self.hidden.weight.float(), self.hidden.bias.float()))
            embedding = F.linear(x, self.out.weight.float(), self.out.bias.float())
        modulation = self.modulation(F.silu(_cast(embedding, self.modulation)))
        if self.fps is not None:
            rate = _cast(self.fps.weight[self.fps_index], self.fps_hidden)
            modulation = modulation + self.fps_out(F.silu(self.fps_hidden(rate)))
        return embedding, modulation.float().unflatten(-1, (6, -1))


class TextProjection(nn.Module):
    """Text encoder states -> the width of the model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hidden = GELULinear(config.text_dim, config.dim)
        self.out = Linear(config.dim, config.dim)

    def forward(self, text: Float[Tensor, "prompts n text"]) -> Float[Tensor, "prompts n d"]:
        """Project each token."""
        return self.out(self.hidden(_cast(text, self.hidden)))


class ImageProjection(nn.Module):
    """CLIP tokens of an image -> the width of the model.

    With learned positions the tokens are those of the first frame followed by those of the last, `length` in all.
    """

    def __init__(self, width: int, length: int | None, dim: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, length, width)) if length is not None else None
        self.norm_in = FloatNorm(width)
        self.hidden = Linear(width, width)
        self.out = Linear(width, dim)
        self.norm_out = FloatNorm(dim)

    def forward(self, tokens: Float[Tensor, "images m clip"]) -> Float[Tensor, "b n d"]:
        """Project each token; with learned positions the images of one video may come as rows of their own."""
        x = _cast(tokens, self.hidden)
        if self.position is not None:
            x = x.reshape(-1, *self.position.shape[1:]) + self.position.to(x.dtype)
        return self.norm_out(self.out(F.gelu(self.hidden(self.norm_in(x)))))


class Block(nn.Module):
    """Self attention, cross attention and feed-forward, modulated by the level of each frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.table = nn.Parameter(torch.empty(6, config.dim))
        self.self_attention = SelfAttention(config)
        self.norm_cross = FloatNorm(config.dim, config.eps) if config.cross_attn_norm else nn.Identity()
        self.cross_attention = CrossAttention(config)
        self.ffn_in = GELULinear(config.dim, config.ffn_dim)
        self.ffn_out = Linear(config.ffn_dim, config.dim)

    def modulation(self, time: Float[Tensor, "b t 6 d"]) -> tuple[Float[Tensor, "b t 1 d"], ...]:
        """Shift, scale and gate of self attention, then those of the feed-forward."""
        return (self.table.float() + time).unsqueeze(3).unbind(2)

    def project(self, x: Float[Tensor, "b t s d"], modulation: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values `[b heads n dh]` of self attention, not yet rotated."""
        y = modulated_norm(x, *modulation[:2], eps=self.eps)
        return self.self_attention.project(_cast(y.flatten(1, 2), self.self_attention.qkv))

    def finish(
        self,
        x: Float[Tensor, "b t s d"],
        modulation: tuple[Tensor, ...],
        qkv: tuple[Tensor, Tensor, Tensor],
        *,
        text: TextKV | EmbeddedText,
        view: View,
        past: ContextLayer | None,
    ) -> Float[Tensor, "b t s d"]:
        """The rest of the block, after `project`."""
        _, _, gate, ffn_shift, ffn_scale, ffn_gate = modulation
        if not isinstance(text, TextKV):
            text = self.cross_attention.keys_values(*text)
        y = self.self_attention.attend(*qkv, view=view, past=past)
        x = gated_sum(x, gate, y.view_as(x))
        y = self.norm_cross(x).flatten(1, 2)
        x = x + self.cross_attention(_cast(y, self.cross_attention.q), text, attend=view.attend).view_as(x)
        y = modulated_norm(x, ffn_shift, ffn_scale, eps=self.eps)
        y = self.ffn_out(self.ffn_in(_cast(y, self.ffn_in)))
        return gated_sum(x, ffn_gate, y)

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        time: Float[Tensor, "b t 6 d"],
        text: TextKV | EmbeddedText,
        *,
        view: View,
        past: ContextLayer | None = None,
    ) -> Float[Tensor, "b t s d"]:
        """One block; `text` is this layer's `TextKV` or what it is made from."""
        modulation = self.modulation(time)
        return self.finish(x, modulation, self.project(x, modulation), text=text, view=view, past=past)


class Head(nn.Module):
    """Tokens -> the velocity of their patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.table = nn.Parameter(torch.empty(2, config.dim))
        self.project = Linear(config.dim, config.patch_dim)

    def forward(self, x: Float[Tensor, "b t s d"], embedding: Float[Tensor, "b t d"]) -> Float[Tensor, "b t s patch"]:
        """Modulate by the level of each frame and project."""
        shift, scale = (self.table.float() + embedding.unsqueeze(2)).unsqueeze(3).unbind(2)
        return self.project(_cast(modulated_norm(x, shift, scale, eps=self.eps), self.project))
