"""Reported work is counted work, for our loop and for the pipelines of diffusers, at toy size."""

import math
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bdiff_bench.peers import PeersConfig
from bdiff_bench.peers.rounds import make_contestant
from bdiff_bench.peers.shapes import make_transformer, toy
from bdiff_core.samplers import generate_overlap


def config(out, **more):
    plain = {"shapes": ("toy",), "num_chunks": 5, "repeats": 1, "context": 2, "threads": 1, "steps": 2}
    return PeersConfig(out=out, **plain | more)


@pytest.fixture(scope="module")
def contestant(tmp_path_factory):
    """Makes a contestant of the toy shape, once each."""
    made = {}

    def make(name, **more):
        key = (name, *more.items())
        if key not in made:
            made[key] = make_contestant(config(tmp_path_factory.mktemp("peers"), **more), toy(), name)
        return made[key]

    return make


def linear_flops(x, weight, *_, **__):
    """Operations of a linear layer by oneDNN, given shapes; the counter does not know it either."""
    return 2 * math.prod(x) * weight[0]


def counted(sample):
    # The counter does not know the CPU's fused attention; written as matrix products it counts the same work.
    own = {torch.ops.mkldnn._linear_pointwise: linear_flops}
    with FlopCounterMode(display=False, custom_mapping=own) as counter, sdpa_kernel(SDPBackend.MATH):
        made = sample()
    return counter, made


def test_operations_of_our_loop_are_those_counted(contestant):
    counter, video = counted(lambda: contestant("dense").sample(5, 2))
    assert len(video.arrivals) == 5
    assert list(video.arrivals) == sorted(video.arrivals)
    assert video.work.flops == pytest.approx(counter.get_total_flops(), rel=1e-3)
    assert video.work.passes == 5 * 2 + 4  # the last chunk is not remembered
    assert video.shown == 2 * toy().tokens


def test_the_work_of_a_sparse_memory_is_that_of_the_tokens_it_shows(contestant):
    shape = toy()
    semantic = contestant("semantic", coverage=0.6).sample(5, 1)
    dense = contestant("dense", context=4).sample(5, 1)
    assert 0 < semantic.shown < dense.shown == 4 * shape.tokens
    assert semantic.work.tokens_read < dense.work.tokens_read
    assert semantic.work.flops < dense.work.flops


@pytest.mark.parametrize("name", ["synchronous", "asynchronous"])
def test_operations_of_the_diffusion_forcing_are_those_counted(contestant, name):
    pytest.importorskip("diffusers", reason="the pipelines are in diffusers")
    counter, video = counted(lambda: contestant(name).sample(5, 2))
    assert len(video.arrivals) == 5
    # Windows of chunks 0-2 and 2-4, in the asynchronous mode each chunk a step later.
    rows = 2 + 2 if name == "synchronous" else (2 + 2) + (2 + 1)
    assert video.work.passes == rows
    shape = toy()
    masked = 0
    if name == "asynchronous":  # what is masked is computed all the same
        masked = rows * 3 * 4 * shape.tokens**2 * shape.config.dim * shape.config.num_layers
    assert video.work.flops + masked == pytest.approx(counter.get_total_flops(), rel=2e-3)


def test_operations_of_anyflow_are_those_counted_beside_attention(contestant, monkeypatch):
    diffusers = pytest.importorskip("diffusers", reason="the pipeline is in diffusers")
    shape = toy()
    # The counter cannot follow flex attention: without any, what is left is counted.
    module = sys.modules[diffusers.AnyFlowFARTransformer3DModel.__module__]
    monkeypatch.setattr(module, "dispatch_attention_fn", lambda query, *_, **__: query)
    counter, video = counted(lambda: contestant("anyflow").sample(5, 2))
    linear = counter.get_total_flops()
    # Attention: each chunk's steps see what the cache holds, the pass that fills it is causal; both see the text.
    near, distant = shape.tokens, 2 * 2 * 2
    attended = 0
    for index in range(5):
        past = [distant] * max(0, index - 2) + [near] * min(index, 2)
        attended += 2 * near * (near + sum(past) + shape.config.text_length)
        if index < 4:
            sizes = [distant] * max(0, index - 1) + [near] * min(index + 1, 2)
            attended += sum(
                size * (sum(sizes[: place + 1]) + shape.config.text_length) for place, size in enumerate(sizes)
            )
    attention = 4 * attended * shape.config.dim * shape.config.num_layers
    assert video.work.flops - attention == pytest.approx(linear, rel=2e-3)
    assert len(video.arrivals) == 5
    assert video.work.passes == 5 * 2 + 4


def test_diffusers_has_our_weights(contestant):
    """The same latents come out of its transformer and of ours."""
    pytest.importorskip("diffusers", reason="the transformer is in diffusers")
    shape = toy()
    theirs = contestant("synchronous")._pipeline.transformer
    ours = make_transformer(shape, device="cpu", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 4, 8, 8, generator=generator)
    text = torch.randn(1, shape.config.text_length, shape.config.text_dim, generator=generator)
    levels = torch.rand(1, 4, generator=generator)
    with torch.no_grad():
        expected = theirs(latents, levels * 1000, text, enable_diffusion_forcing=True).sample
        found = ours(latents, levels, text)
    assert found.abs().mean() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("lag", [0, 2])
def test_windows_are_those_of_our_own_overlap_sampler(lag, monkeypatch):
    from bdiff_bench.peers import chunk_loop, pipelines

    shape, model = toy(), make_transformer(toy(), device="cpu", dtype=torch.float32)
    passes, plain = [], type(model).forward

    def watch(self, latents, *args, **kwargs):
        passes.append(latents.shape[2] // shape.chunk.frames)
        return plain(self, latents, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", watch)
    plan = chunk_loop._prompts(shape.config, 6, device="cpu")
    stream = chunk_loop.NoiseStream((16, 8, 8), shape.chunk.frames, seed=0)
    with torch.no_grad():
        videos = generate_overlap(model, plan, noise=stream, grid=[1.0, 0.7, 0.3, 0.0], window=3, overlap=1, lag=lag)
        arrived = [len(passes) for _ in videos]
    rows = list(pipelines.window_rows(6, 3, window=3, lag=lag))
    assert [seen for seen, _ in rows] == passes
    assert [1 + next(at for at, (_, done) in enumerate(rows) if done > chunk) for chunk in range(6)] == arrived
