"""A small causal video autoencoder: pixels to latents and back, whole or as a stream.

The first frame of a video is compressed in space alone. Every later latent frame covers four frames, so a stream of
``4n - 3`` frames has ``n`` latent frames. The first frame stands for a group of four equal ones: the network sees
groups of four frames as the channels of one picture, and causal convolutions over groups mix time. The state is what
these convolutions carry from chunk to chunk. With it, decoding chunk by chunk gives what decoding everything at once
gives. A linear map of each latent's own pixels is added to the network. `start_from_principal_components` sets it to
the best linear code, so that training begins there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_core.vae.layers import CausalMix, ChannelNorm, Down, Residual, Up, make_stage

VAEState = tuple[Tensor, ...]
"""What the temporal convolutions carry between chunks: one tensor for each of them, oldest frame first."""

_GROUP = 4  # frames that share a latent frame


@dataclass(frozen=True, kw_only=True, slots=True)
class VAEConfig:
    """Sizes of a `CausalVAE`; the defaults are those of the shipped weights."""

    latent_channels: int = 16
    """Channels of a latent frame."""
    encoder_widths: tuple[int, int] = (64, 112)
    """Encoder channels at a quarter and an eighth of the picture's size."""
    encoder_blocks: tuple[int, int] = (2, 2)
    """Encoder residual blocks at these two sizes."""
    decoder_widths: tuple[int, int, int] = (144, 96, 48)
    """Decoder channels at an eighth, a quarter and a half of the picture's size."""
    decoder_blocks: tuple[int, int, int] = (2, 3, 1)
    """Decoder residual blocks at these three sizes."""

    def __post_init__(self) -> None:
        for name, length in (("encoder", 2), ("decoder", 3)):
            widths, blocks = getattr(self, f"{name}_widths"), getattr(self, f"{name}_blocks")
            if len(widths) != length or min(widths) < 1:
                raise ValueError(f"VAEConfig.{name}_widths is {widths}; expected {length} positive numbers")
            if len(blocks) != length or min(blocks) < 0:
                raise ValueError(f"VAEConfig.{name}_blocks is {blocks}; expected {length} numbers of at least 0")
        if self.latent_channels < 1:
            raise ValueError(f"VAEConfig.latent_channels is {self.latent_channels}; expected at least 1")

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame covers, the first one excepted."""
        return 4

    @property
    def spatial_stride(self) -> int:
        """Pixels, in each direction, that a latent covers."""
        return 8


class CausalVAE(nn.Module):
    """Causal video autoencoder with 4x8x8 compression; latents come out with zero mean and about unit variance.

    Args:
        config: the sizes.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        quarter, eighth = config.encoder_widths
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(_GROUP * 3 * 16, quarter, 3, padding=1),
                *make_stage(quarter, config.encoder_blocks[0]),
                Down(quarter, eighth),
                *make_stage(eighth, config.encoder_blocks[1]),
                ChannelNorm(eighth),
                nn.Conv2d(eighth, 2 * config.latent_channels, 3, padding=1),
            ]
        )
        eighth, quarter, half = config.decoder_widths
        self.decoder = nn.ModuleList(
            [
                nn.Conv2d(config.latent_channels, eighth, 3, padding=1),
                *make_stage(eighth, config.decoder_blocks[0]),
                Up(eighth, quarter),
                *make_stage(quarter, config.decoder_blocks[1]),
                Up(quarter, half),
                *[Residual(half) for _ in range(config.decoder_blocks[2])],
                ChannelNorm(half),
                nn.Conv2d(half, _GROUP * 3 * 4, 3, padding=1),
            ]
        )
        pixels = _GROUP * 3 * config.spatial_stride**2
        self.linear_encoder = nn.Conv2d(pixels, config.latent_channels, 1)
        self.linear_decoder = nn.Conv2d(config.latent_channels, pixels, 1)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame."""
        return self.config.latent_channels

    @property
    def spatial_stride(self) -> int:
        """Pixels, in each direction, that a latent covers."""
        return self.config.spatial_stride

    @property
    def device(self) -> torch.device:
        """Device on which it computes."""
        return self.latent_mean.device

    def encode(
        self, frames: Float[Tensor, "b 3 T h w"], state: VAEState | None = None
    ) -> tuple[Float[Tensor, "b c t h8 w8"], VAEState]:
        """Encode the next frames of a stream to the mean of their latents, normalised per channel.

        Args:
            frames: pixels in [-1, 1]; ``4n - 3`` of them at the start of a stream, ``4n`` later.
            state: what the call for the frames just before returned; None at the start.

        Returns:
            ``n`` latent frames and the state to go on with.
        """
        mean, _, state = self.posterior(frames, state)
        return (mean - _as_channels(self.latent_mean)) / _as_channels(self.latent_std), state

    def decode(
        self, latents: Float[Tensor, "b c t h8 w8"], state: VAEState | None = None
    ) -> tuple[Float[Tensor, "b 3 T h w"], VAEState]:
        """Decode the next latent frames of a stream to pixels in [-1, 1].

        Args:
            latents: normalised latents as `encode` gives them.
            state: what the call for the latents just before returned; None at the start.

        Returns:
            ``4n - 3`` frames for the first ``n`` latent frames of a stream, ``4n`` for later ones, and the state to go
            on with.
        """
        self._check_latents(latents)
        frames, state = self.pixels(latents * _as_channels(self.latent_std) + _as_channels(self.latent_mean), state)
        return frames.clamp(-1, 1), state

    def posterior(
        self, frames: Float[Tensor, "b 3 T h w"], state: VAEState | None = None
    ) -> tuple[Float[Tensor, "b c t h8 w8"], Float[Tensor, "b c t h8 w8"], VAEState]:
        """Mean and log-variance of the latents before normalisation, for training; see `encode`."""
        stride = self.config.spatial_stride
        height, width = frames.shape[-2:]
        if height % stride or width % stride:
            raise ValueError(f"frames are {height}x{width}; both sides must be multiples of {stride}: crop or pad them")
        count = frames.shape[2]
        if state is None:
            if count % _GROUP != 1:
                raise ValueError(
                    f"a stream starts with 4n - 3 frames (1, 5, 9, ...), got {count}; later calls take 4n and state="
                )
            frames = torch.cat([frames[:, :, :1].expand(-1, -1, _GROUP - 1, -1, -1), frames], dim=2)
        elif count % _GROUP or not count:
            raise ValueError(
                f"a stream goes on with 4n frames (4, 8, ...), got {count}; state=None starts a new stream"
            )
        x = rearrange(frames, "b c (t f) (h p) (w q) -> (b t) (f c p q) h w", f=_GROUP, p=4, q=4)
        x, state = self._run(self.encoder, x, frames.shape[0], state)
        mean, log_variance = rearrange(x, "(b t) (two c) h w -> two b c t h w", two=2, b=frames.shape[0])
        linear = self.linear_encoder(_patches(frames))
        mean = mean + rearrange(linear, "(b t) c h w -> b c t h w", b=frames.shape[0])
        return mean, log_variance.clamp(-20, 10), state

    def pixels(
        self, latents: Float[Tensor, "b c t h8 w8"], state: VAEState | None = None
    ) -> tuple[Float[Tensor, "b 3 T h w"], VAEState]:
        """Decode latents that are not normalised to pixels that are not clamped, for training; see `decode`."""
        self._check_latents(latents)
        batch = latents.shape[0]
        pictures = rearrange(latents, "b c t h w -> (b t) c h w")
        x, after = self._run(self.decoder, pictures, batch, state)
        frames = rearrange(x, "(b t) (f c p q) h w -> b c (t f) (h p) (w q)", b=batch, f=_GROUP, p=2, q=2)
        linear = self.linear_decoder(pictures.contiguous(memory_format=torch.channels_last))
        frames = frames + rearrange(linear, "(b t) (f c p q) h w -> b c (t f) (h p) (w q)", b=batch, f=_GROUP, p=8, q=8)
        return (frames[:, :, _GROUP - 1 :] if state is None else frames), after

    @torch.no_grad()
    def start_from_principal_components(self, frames: Float[Tensor, "b 3 T h w"], *, noise: float = 0.08) -> None:
        """Set the linear maps to the best linear code of some videos, with unit variance, and the network to zero.

        Args:
            frames: videos of 4n - 3 frames, pixels in [-1, 1], with many more latent positions than latent channels.
            noise: initial standard deviation of the posterior.
        """
        first = frames[:, :, :1].expand(-1, -1, _GROUP - 1, -1, -1)
        patches = rearrange(_patches(torch.cat([first, frames], dim=2)), "n c h w -> (n h w) c").double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        channels = self.config.latent_channels
        # at least an eighth of a grey level: in flat videos directions without variance would overflow half precision
        scale, vectors = values[-channels:].clamp(min=1e-6).sqrt(), vectors[:, -channels:]
        code, image = (vectors / scale).T, vectors * scale
        for linear, weight, bias in ((self.linear_encoder, code, -code @ mean), (self.linear_decoder, image, mean)):
            linear.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
        encoder, decoder = self.encoder[-1], self.decoder[-1]
        for parameter in (*encoder.parameters(), *decoder.parameters()):
            parameter.zero_()
        encoder.get_parameter("bias")[channels:] = 2 * math.log(noise)

    @torch.no_grad()
    def set_latent_statistics(self, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Set what `encode` subtracts and divides by: statistics of `posterior` means over a data set."""
        if not bool((std > 0).all()):
            raise ValueError(f"std must be positive in every channel, got a smallest value of {std.min().item():.3g}")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def _check_latents(self, latents: Tensor) -> None:
        channels = self.config.latent_channels
        if latents.shape[1] != channels or not latents.shape[2]:
            raise ValueError(f"latents have shape {tuple(latents.shape)}; expected [b {channels} t h w] with t >= 1")

    @staticmethod
    def _run(layers: nn.ModuleList, x: Tensor, batch: int, state: VAEState | None) -> tuple[Tensor, VAEState]:
        carried = _carried(layers, state, batch)
        after = []
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in layers:
            if isinstance(layer, CausalMix):
                x, last = layer(x, batch, next(carried))
                after.append(last)
            else:
                x = layer(x)
        return x, tuple(after)


def _carried(layers: nn.ModuleList, state: VAEState | None, batch: int) -> Iterator[Tensor | None]:
    mixes = sum(isinstance(layer, CausalMix) for layer in layers)
    if state is None:
        return iter([None] * mixes)
    if len(state) != mixes or any(carried.shape[0] != batch for carried in state):
        shapes = [tuple(carried.shape) for carried in state]
        raise ValueError(
            f"state {shapes} is not of this stream: expected {mixes} tensors for a batch of {batch}; "
            "pass what the call before returned"
        )
    return iter(state)


def _patches(frames: Float[Tensor, "b 3 T h w"]) -> Float[Tensor, "bt c h8 w8"]:
    x = rearrange(frames, "b c (t f) (h p) (w q) -> (b t) (f c p q) h w", f=_GROUP, p=8, q=8)
    return x.contiguous(memory_format=torch.channels_last)


def _as_channels(values: Float[Tensor, " c"]) -> Float[Tensor, "c 1 1 1"]:
    return values[:, None, None, None]
