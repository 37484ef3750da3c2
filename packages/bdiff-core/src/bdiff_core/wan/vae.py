"""Wan 2.1's autoencoder as a stream; the state is what its causal convolutions carry from chunk to chunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.errors import first_line
from bdiff_core.wan.checks import check_files, check_module

_GROUP = 4  # frames that share a latent frame

State = tuple[tuple[Any, ...], ...]
"""For every tile, the last input of each causal convolution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """Pictures larger than a tile are coded in tiles that overlap, which bounds memory at the cost of time."""

    size: int = 256
    """Side of a tile in pixels, a multiple of 8."""
    stride: int = 192
    """From one tile to the next, in pixels, a multiple of 8; tiles are blended where they overlap."""

    def __post_init__(self) -> None:
        if self.size % 8 or self.stride % 8 or not 0 < self.stride <= self.size:
            raise ValueError(
                f"tile size is {self.size} and stride {self.stride}; expected multiples of 8 and 0 < stride <= size"
            )


class WanVAE:
    """diffusers' `AutoencoderKLWan` behind the `Decoder` protocol, decoding and encoding as a stream.

    Latents are normalised by the mean and deviation of each channel, which are in the autoencoder's config. Memory does
    not grow with the length of the stream.

    Args:
        vae: The `AutoencoderKLWan`.
        tiling: How large pictures are cut into tiles; None: they are not.

    Raises:
        ValueError: If it is not an autoencoder of Wan 2.1.
    """

    def __init__(self, vae: Any, *, tiling: Tiling | None = None) -> None:
        config = vae.config
        if getattr(config, "patch_size", None) is not None or getattr(config, "is_residual", False):
            raise ValueError("this is an autoencoder of Wan 2.2, which patches pixels; expected one of Wan 2.1 (4x8x8)")
        self._vae = vae.eval().requires_grad_(False)
        self._tiling = tiling
        weight = next(vae.parameters())
        self._mean, self._std = (
            torch.tensor(values, device=weight.device, dtype=torch.float32).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )

    @classmethod
    def load(
        cls,
        path_or_repo: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tiling: Tiling | None = None,
    ) -> "WanVAE":
        """Read the `vae` folder of a pipeline, or that of a repository on the hub.

        Raises:
            ValueError: If diffusers is missing, or the folder does not hold such an autoencoder, or its weights are not
                finite.
        """
        try:
            from diffusers import AutoencoderKLWan
        except ImportError:
            raise ValueError("Wan's autoencoder needs diffusers: pip install 'bdiff-core[wan]'") from None
        where = {"subfolder": "vae"} if not Path(path_or_repo).is_dir() else {}
        check_files(Path(path_or_repo))
        lean = find_spec("accelerate") is not None  # diffusers needs it to load weights without a second copy
        try:
            vae, found = AutoencoderKLWan.from_pretrained(
                str(path_or_repo), torch_dtype=dtype, low_cpu_mem_usage=lean, output_loading_info=True, **where
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path_or_repo}: cannot load the autoencoder: {first_line(error)}") from None
        check_module(vae, found, path_or_repo)
        return cls(vae.to(device), tiling=tiling)

    def save(self, folder: Path) -> None:
        """Write the autoencoder as diffusers does."""
        self._vae.save_pretrained(str(folder))

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame."""
        return int(self._vae.config.z_dim)

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame covers, the first one excepted."""
        return _GROUP

    @property
    def spatial_stride(self) -> int:
        """Pixels, in each direction, that a latent covers."""
        return int(self._vae.spatial_compression_ratio)

    @property
    def device(self) -> torch.device:
        """Device on which it computes."""
        return self._mean.device

    def to(self, device: torch.device | str) -> "WanVAE":
        """Move the autoencoder to a device and return it."""
        self._vae.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b c t h8 w8"], state: State | None = None
    ) -> tuple[Float[Tensor, "b 3 T h w"], State]:
        """Decode the next latent frames of a stream.

        Args:
            latents: Normalised latents.
            state: What the call for the latents just before returned; None at the start.

        Returns:
            ``4t - 3`` frames in [-1, 1] of the first ``t`` latent frames, ``4t`` of later ones, and the state to go on.
        """
        weight = next(self._vae.parameters())
        z = (latents.to(self._mean.device).float() * self._std + self._mean).to(weight.dtype)
        scale = self.spatial_stride
        frames, state = self._tiled(z, state, code=self._decode_tile, unit_in=1, unit_out=scale)
        return frames.clamp(-1, 1).to(latents.dtype), state

    @torch.no_grad()
    def encode(
        self, frames: Float[Tensor, "b 3 T h w"], state: State | None = None
    ) -> tuple[Float[Tensor, "b c t h8 w8"], State]:
        """Encode the next frames of a stream to the mean of their posterior, normalised.

        Args:
            frames: In [-1, 1]: ``4t - 3`` at the start of a stream, ``4t`` later.
            state: What the call for the frames just before returned; None at the start.

        Raises:
            ValueError: If the number of frames does not fit.
        """
        count, lead = frames.shape[2], 1 if state is None else 0
        if count < 1 or (count - lead) % _GROUP:
            wanted = "4n - 3 frames (1, 5, 9, ...) at the start" if lead else "4n frames (4, 8, ...) later"
            raise ValueError(f"got {count} frames; a stream takes {wanted}")
        x = frames.to(next(self._vae.parameters()))
        moments, state = self._tiled(x, state, code=self._encode_tile, unit_in=self.spatial_stride, unit_out=1)
        mean = moments[:, : self.latent_channels].float()
        return ((mean - self._mean) / self._std).to(frames.dtype), state

    def _tiled(
        self, x: Tensor, state: State | None, *, code: Callable, unit_in: int, unit_out: int
    ) -> tuple[Tensor, State]:
        """Encode or decode tile after tile, each with its own state, and blend the tiles as diffusers does.

        A latent is ``unit_in`` wide in the input and ``unit_out`` wide in the output.
        """
        stride, size = (self._tiling.stride // 8, self._tiling.size // 8) if self._tiling else (0, 0)
        height, width = (side // unit_in for side in x.shape[3:])
        if not size or max(height, width) <= size:
            out, after = code(x, None if state is None else state[0])
            return out, (after,)
        corners = [(i, j) for i in range(0, height, stride) for j in range(0, width, stride)]
        states: list[Any] = [None] * len(corners) if state is None else list(state)
        tiles: dict[tuple[int, int], Tensor] = {}
        for place, (i, j) in enumerate(corners):
            cut = x[..., i * unit_in : (i + size) * unit_in, j * unit_in : (j + size) * unit_in]
            tiles[i, j], states[place] = code(cut, states[place])
        shared, kept = (size - stride) * unit_out, stride * unit_out
        rows = []
        for i in range(0, height, stride):
            row = []
            for j in range(0, width, stride):
                tile = tiles[i, j]
                if i:
                    tile = self._vae.blend_v(tiles[i - stride, j], tile, shared)
                if j:
                    tile = self._vae.blend_h(tiles[i, j - stride], tile, shared)
                row.append(tile[..., :kept, :kept])
            rows.append(torch.cat(row, dim=-1))
        whole = torch.cat(rows, dim=-2)[..., : height * unit_out, : width * unit_out]
        return whole, tuple(states)

    def _decode_tile(self, z: Tensor, carried: Sequence[Any] | None) -> tuple[Tensor, tuple[Any, ...]]:
        caches, first = self._caches("decoder", carried), carried is None
        x = self._vae.post_quant_conv(z)
        frames = []
        for number, latent in enumerate(x.split(1, dim=2)):
            place = {"feat_cache": caches, "feat_idx": [0]}
            frames.append(self._vae.decoder(latent, first_chunk=first and number == 0, **place))
        return torch.cat(frames, dim=2), tuple(caches)

    def _encode_tile(self, x: Tensor, carried: Sequence[Any] | None) -> tuple[Tensor, tuple[Any, ...]]:
        caches = self._caches("encoder", carried)
        lead = [1] if carried is None else []
        groups = x.split([*lead, *[_GROUP] * ((x.shape[2] - len(lead)) // _GROUP)], dim=2)
        coded = [self._vae.encoder(group, feat_cache=caches, feat_idx=[0]) for group in groups]
        return self._vae.quant_conv(torch.cat(coded, dim=2)), tuple(caches)

    def _caches(self, part: str, carried: Sequence[Any] | None) -> list[Any]:
        """A list with one entry for each causal convolution; the layers put new tensors into it and change none."""
        if carried is not None:
            return list(carried)
        layers = getattr(self._vae, part).modules()
        return [None] * sum(type(layer).__name__ == "WanCausalConv3d" for layer in layers)
