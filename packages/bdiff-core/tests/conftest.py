import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bdiff_core import ChunkDiT, ModelConfig


def beside(file):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(f"bdiff_core_{file}", Path(__file__).with_name(f"{file}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference():
    """The slow transformer of reference.py."""
    return beside("reference")


@pytest.fixture(scope="session")
def published():
    """The layouts of other projects of published.py."""
    return beside("published")


@pytest.fixture(scope="session")
def config():
    """A transformer that is small in every way."""
    return ModelConfig(
        dim=40, num_layers=3, num_heads=2, ffn_dim=48, in_channels=3, out_channels=3, text_dim=12, text_length=6,
        freq_dim=16,
    )  # fmt: skip


@pytest.fixture(scope="session")
def random_model():
    """Makes a transformer in which every parameter is random and none is zero."""

    def make(config, seed=0):
        model = ChunkDiT(config)
        generator = torch.Generator().manual_seed(seed)
        for name, p in model.named_parameters():
            scale = 0.3 if p.ndim < 2 or name.endswith("table") else p.shape[-1] ** -0.5
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.data = offset + scale * torch.randn(p.shape, generator=generator)
        return model

    return make


@pytest.fixture(scope="session")
def random_video():
    """Makes random latents [b c t h w], levels [b t] constant in each chunk and a prompt a chunk."""

    def make(config, *, chunks, frames, batch=2, size=(4, 6), seed=0):
        generator = torch.Generator().manual_seed(seed)
        return SimpleNamespace(
            latents=torch.randn(batch, config.in_channels, chunks * frames, *size, generator=generator),
            levels=torch.rand(batch, chunks, generator=generator).repeat_interleave(frames, dim=1),
            prompts=torch.randn(batch, chunks, config.text_length - 2, config.text_dim, generator=generator),
            chunk=lambda i: slice(i * frames, (i + 1) * frames),
        )

    return make


@pytest.fixture(scope="session")
def relative():
    """Norm of a difference over the norm of what was expected."""
    return lambda found, expected: ((found - expected).norm() / expected.norm()).item()


@pytest.fixture
def plain_errors(request):
    """For tests of what a user sees: with the test hook, jaxtyping would answer before the library does."""
    if request.config.getoption("--jaxtyping-packages", None):
        pytest.skip("the hook that checks shapes answers first; the run without it covers this")
