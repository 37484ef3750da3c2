"""Discriminators for Self Forcing: of latents, and of the features that a transformer computes from them."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forcing_losses.flow_matching import per_frame, widened


class FeatureDiscriminator(nn.Module):
    """A discriminator head on features of a transformer, such as the teacher or the generator itself.

    For each layer, one learned query attends to the tokens of that layer. The results are concatenated and mapped to a
    logit. A new head returns the logit 0 for every input, so D = 1/2.
    """

    def __init__(
        self, width: int, *, num_features: int = 1, num_heads: int = 4, condition_dim: int | None = None
    ) -> None:
        """Make a head for the tokens of `num_features` layers.

        Args:
            width: Width of the tokens, divisible by `num_heads`.
            num_features: Number of layers whose tokens `forward` takes.
            num_heads: Number of heads of each query.
            condition_dim: Width of an embedding, of the prompt for example, that the video should agree with. None: the
                head is unconditional.
        """
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features is {num_features}; expected at least 1 layer")
        self.pools = nn.ModuleList(_Pool(width, num_heads) for _ in range(num_features))
        self.hidden = nn.Linear(num_features * width, width)
        self.logit = nn.Linear(width, 1)
        nn.init.zeros_(self.logit.weight)
        nn.init.zeros_(self.logit.bias)
        self.condition = None if condition_dim is None else nn.Linear(condition_dim, width, bias=False)
        if self.condition is not None:
            nn.init.zeros_(self.condition.weight)

    def forward(
        self,
        features: Float[Tensor, "b n d"] | Sequence[Float[Tensor, "b _ d"]],
        *,
        condition: Float[Tensor, "b condition"] | None = None,
    ) -> Float[Tensor, " b"]:
        """Logit of each video, in float32 or better; larger means more real.

        Args:
            features: Any number of tokens of each of `num_features` layers. The tokens of a single layer need no list.
                The attention has second derivatives, so `gradient_penalty` can be exact.
            condition: One embedding per video, if the head was built with `condition_dim`.
        """
        layers = [features] if isinstance(features, Tensor) else list(features)
        if len(layers) != len(self.pools):
            raise ValueError(f"features has {len(layers)} layers; the head was built for {len(self.pools)}")
        if (condition is None) != (self.condition is None):
            raise ValueError("condition and condition_dim belong together; give both or neither")
        dtype = self.hidden.weight.dtype
        pooled = [pool(tokens.to(dtype)) for pool, tokens in zip(self.pools, layers, strict=True)]
        found = nn.functional.gelu(self.hidden(torch.cat(pooled, dim=-1)))
        logit = self.logit(found).squeeze(-1)
        if self.condition is not None and condition is not None:
            agreement = (found * self.condition(condition.to(dtype))).sum(dim=-1)
            logit = logit + agreement / math.sqrt(found.shape[-1])
        return widened(logit)


class VideoDiscriminator(nn.Module):
    """A small transformer that computes one logit from the latents of a whole video of any length and size.

    Patches attend along time and within their frame, in turn. Positions are sinusoids, so the length has no limit.
    Second derivatives exist everywhere. A new discriminator returns the logit 0 for every input, so D = 1/2.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 192,
        num_layers: int = 4,
        num_heads: int = 4,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        condition_dim: int | None = None,
    ) -> None:
        """Make a discriminator of latents.

        Args:
            channels: Number of channels of the latents.
            width: Width of the tokens, even and divisible by `num_heads`.
            num_layers: Number of blocks. A block is attention along time, attention within the frame and a feed-forward
                layer.
            num_heads: Number of heads of each attention.
            patch_size: Latent frames, rows and columns of a patch.
            condition_dim: Width of an embedding, of the prompt for example, that the video should agree with. None: the
                discriminator is unconditional.
        """
        super().__init__()
        if width % 2:
            raise ValueError(f"width is {width}; expected an even number, because sinusoids come in pairs")
        self.patches = nn.Conv3d(channels, width, patch_size, stride=patch_size)
        self.level = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, num_heads) for _ in range(num_layers))
        self.head = FeatureDiscriminator(width, num_heads=num_heads, condition_dim=condition_dim)

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        level: Float[Tensor, "#b #t"] | None = None,
        condition: Float[Tensor, "b condition"] | None = None,
    ) -> Float[Tensor, " b"]:
        """Logit of each video, in float32 or better; larger means more real.

        Args:
            latents: Videos of at least one patch. Their sizes are multiples of `patch_size`.
            level: Level t of every frame, in [0, 1], if the latents are noisy. The distributions of noisy real and
                noisy generated videos overlap more, which makes training more stable. None: 0, clean.
            condition: One embedding per video, if the discriminator was built with `condition_dim`.
        """
        patch = self.patches.kernel_size
        sizes = tuple(latents.shape[2:])
        if any(size < 1 or size % side for size, side in zip(sizes, patch, strict=True)):
            raise ValueError(f"latents are {sizes} in [t h w]; expected multiples of patch_size {patch}, not 0")
        level = latents.new_zeros(1, 1) if level is None else level
        x = self.patches(latents.to(self.patches.weight.dtype))
        axes = (_sinusoids(torch.arange(size, device=x.device), x.shape[1]) for size in x.shape[2:])
        frame, row, column = (axis.to(x) for axis in axes)
        x = x.permute(0, 2, 3, 4, 1) + frame[:, None, None] + row[:, None] + column
        x = (x + self._noisiness(level, latents).to(x)).flatten(2, 3)
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(1, 2), condition=condition)

    def _noisiness(self, level: Tensor, latents: Tensor) -> Float[Tensor, "#b #t 1 1 d"]:
        """Embedding of the mean level of each row of patches."""
        per_frame(level, latents, name="level")  # raises if the shape does not fit
        frames = self.patches.kernel_size[0]
        if level.shape[1] > 1:
            level = level.unflatten(1, (-1, frames)).mean(dim=-1)
        weight = self.patches.weight
        return self.level(_sinusoids(1000 * level, weight.shape[0]).to(weight))[:, :, None, None]


class _Pool(nn.Module):
    """A learned query that attends to tokens [b n d] and returns [b d]."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.key_value = nn.Linear(width, 2 * width)
        self.num_heads = _checked_heads(width, num_heads)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        key, value = self.key_value(self.norm(tokens)).chunk(2, dim=-1)
        query = self.query.expand(tokens.shape[0], 1, -1)
        return _attend(query, key, value, self.num_heads).squeeze(1)


class _Attention(nn.Module):
    """Self-attention over the n tokens of x [... n d]."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.num_heads = _checked_heads(width, num_heads)

    def forward(self, x: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch n d"]:
        query, key, value = self.query_key_value(self.norm(x)).chunk(3, dim=-1)
        return self.out(_attend(query, key, value, self.num_heads))


class _Block(nn.Module):
    """Attention along time, attention within the frame and feed-forward, each with a residual, on x [b t s d]."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.time, self.space = _Attention(width, num_heads), _Attention(width, num_heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Float[Tensor, "b t s d"]) -> Float[Tensor, "b t s d"]:
        x = x + self.time(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.space(x)
        return x + self.feed_forward(x)


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Attention of [... n d] to [... m d] in basic operations, because fused kernels have no second derivative."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(-3, -2) for x in (query, key, value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (widened(scores).softmax(dim=-1).to(v.dtype) @ v).transpose(-3, -2).flatten(-2)


def _sinusoids(values: Tensor, width: int) -> Float[Tensor, "*values {width}"]:
    """Sines and cosines of values, with wavelengths from 2 pi to 10,000 * 2 pi."""
    speed = torch.exp(torch.arange(width // 2, device=values.device) * (-2 * math.log(10_000) / width))
    angle = widened(values if values.is_floating_point() else values.float())[..., None] * speed
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


def _checked_heads(width: int, num_heads: int) -> int:
    if num_heads < 1 or width % num_heads:
        raise ValueError(
            f"width is {width} and num_heads is {num_heads}; expected a width that is a multiple of num_heads"
        )
    return num_heads
