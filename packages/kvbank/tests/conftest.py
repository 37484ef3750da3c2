from collections.abc import Callable

import pytest
import torch

from kvbank import LayerKV


@pytest.fixture
def unhooked(request: pytest.FixtureRequest) -> None:
    """For tests of our own shape errors, which a run with the jaxtyping hook would forestall."""
    if request.config.getoption("--jaxtyping-packages"):
        pytest.skip("the jaxtyping hook refuses the arguments first")


@pytest.fixture
def make_layers() -> Callable[..., list[LayerKV]]:
    """Random layers that depend on the chunk alone."""

    def make(chunk: int, *, tokens: int = 12, num_layers: int = 2, heads: int = 2, dh: int = 4) -> list[LayerKV]:
        generator = torch.Generator().manual_seed(1000 + chunk)
        layers = []
        for _ in range(num_layers):
            key, value, query = (2 * torch.randn(2, heads, tokens, dh, generator=generator) for _ in range(3))
            place = torch.arange(tokens)
            position = torch.stack([place // 4 + 3 * chunk, place // 2 % 2, place % 2], dim=1)
            layers.append(LayerKV(key, value, position, query=query))
        return layers

    return make
