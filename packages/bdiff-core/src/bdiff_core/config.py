"""Sizes and switches of the transformer."""

from dataclasses import dataclass
from typing import Literal, get_args

NativeMode = Literal["whole", "overlap", "cached"]
"""How a checkpoint was trained to make videos: see `ModelConfig.native_mode`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Architecture of a `ChunkDiT`: Wan 2.1 and SkyReels-V2 are instances of it.

    Raises:
        ValueError: If the sizes do not fit together.
    """

    dim: int
    """Width of the residual stream; `num_heads` heads share it evenly."""
    num_layers: int
    """Transformer blocks."""
    num_heads: int
    """Attention heads; `dim // num_heads` must be even, since rotary positions turn pairs."""
    ffn_dim: int
    """Hidden width of the feed-forward network."""
    in_channels: int = 16
    """Latent channels given to the model, those of `extra` included."""
    out_channels: int = 16
    """Channels of the velocity."""
    patch_size: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns of one token. Levels are per frame, so the first must be 1."""
    text_dim: int = 4096
    """Width of the text encoder's states."""
    text_length: int = 512
    """Text tokens after zero-padding; no mask hides the padding, as in Wan."""
    freq_dim: int = 256
    """Width of the sinusoidal embedding of the level."""
    qk_norm: bool = True
    """RMS-normalise queries and keys, over all heads together."""
    cross_attn_norm: bool = True
    """Layer-normalise the queries' input of cross attention, with learned scale and shift."""
    eps: float = 1e-6
    """Epsilon of every norm of the blocks."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies."""
    image_dim: int | None = None
    """Width of the CLIP tokens of an image-to-video model; None: the model takes none."""
    image_length: int | None = None
    """Image tokens that have learned positions (first-and-last-frame models); None: no positions."""
    fps_embedding: bool = False
    """Whether the frame rate is an input, as in some SkyReels-V2 models."""
    fps: int = 24
    """The frame rate that `fps_embedding` gives; it has one embedding for 16 and one for every other rate."""
    native_mode: NativeMode = "cached"
    """How the weights were trained to make videos; the numbers of the model do not depend on it. `whole`: all frames at
    once, and each sees all (Wan 2.1). `overlap`: windows that begin with the end of the window before (SkyReels-V2
    diffusion forcing). `cached`: chunk by chunk with stored keys and values (Self-Forcing, CausVid, LongLive, ours)."""

    def __post_init__(self) -> None:
        sizes = ("dim", "num_layers", "num_heads", "ffn_dim", "in_channels", "out_channels")
        for name in (*sizes, "text_dim", "text_length", "freq_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.dim % self.num_heads or self.head_dim % 2:
            raise ValueError(f"dim {self.dim} must split into {self.num_heads} heads (num_heads) of an even size")
        if len(self.patch_size) != 3 or self.patch_size[0] != 1 or min(self.patch_size) < 1:
            raise ValueError(f"patch_size is {self.patch_size}; expected (1, rows, columns): levels are per frame")
        if self.freq_dim % 2:
            raise ValueError(f"freq_dim is {self.freq_dim}; half of it are sines, so it must be even")
        if self.image_length is not None and self.image_dim is None:
            raise ValueError("image_length needs image_dim, the width of the image tokens")
        if self.native_mode not in get_args(NativeMode):
            raise ValueError(f"native_mode is {self.native_mode!r}; expected one of {get_args(NativeMode)}")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Numbers of the velocity in one token."""
        return self.out_channels * self.patch_size[1] * self.patch_size[2]

    def num_tokens(self, frames: int, height: int, width: int) -> int:
        """Tokens of `frames` latent frames of `height` x `width`."""
        return frames * (height // self.patch_size[1]) * (width // self.patch_size[2])
