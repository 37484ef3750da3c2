"""Layers of the causal autoencoder: four frames are the channels of one picture, and one layer mixes time."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_core.linear import Linear

MEMORY = 2
"""Groups of frames that a temporal convolution sees before the current one."""


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position; it mixes neither space nor time, so streams stay exact."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise, then SiLU."""
        # Channels come last in memory, so this is the fused row-wise norm and no copy.
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-5)
        return F.silu(x).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two spatial convolutions added to the identity; a fresh block is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add the result of the convolutions."""
        return x + self.second(F.silu(self.first(self.norm(x))))


class CausalMix(nn.Module):
    """A residual causal (3, 1, 1) convolution, as one matrix product over the channels of three groups of frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.project = Linear((MEMORY + 1) * width, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(
        self, x: Float[Tensor, "bt c h w"], batch: int, before: Float[Tensor, "b m h w c"] | None
    ) -> tuple[Float[Tensor, "bt c h w"], Float[Tensor, "b m h w c"]]:
        """Add the convolution over the current and two earlier groups; also return what the next chunk needs."""
        here = rearrange(self.norm(x), "(b t) c h w -> b t h w c", b=batch)
        if before is None:  # as if the first picture had been there before the video began
            before = here[:, :1].expand(-1, MEMORY, -1, -1, -1)
        seen = torch.cat([before, here], dim=1)
        count = here.shape[1]
        taps = torch.cat([seen[:, k : k + count] for k in range(MEMORY + 1)], dim=-1)
        return x + rearrange(self.project(taps), "b t h w c -> (b t) c h w"), seen[:, count:]


class Down(nn.Module):
    """Half the size: four neighbours become channels, and a linear map follows."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(4 * width, out, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Fold, then map."""
        x = rearrange(x, "n c (h p) (w q) -> n (p q c) h w", p=2, q=2)
        return self.project(x.contiguous(memory_format=torch.channels_last))


class Up(nn.Module):
    """Twice the size: a linear map, and channels become four neighbours."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, 4 * out, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Map, then unfold."""
        x = rearrange(self.project(x), "n (p q c) h w -> n c (h p) (w q)", p=2, q=2)
        return x.contiguous(memory_format=torch.channels_last)


def make_stage(width: int, blocks: int) -> list[nn.Module]:
    """Residual blocks with one `CausalMix` after the first of them; without blocks the `CausalMix` alone."""
    residuals: list[nn.Module] = [Residual(width) for _ in range(blocks)]
    return [*residuals[:1], CausalMix(width), *residuals[1:]]
