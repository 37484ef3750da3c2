"""What is said of a model beforehand is what is counted while it runs."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bdiff_core import ChunkDiT, prepare_context, tiny, wan21_1_3b
from bdiff_core.costs import ChunkShape, kv_bytes, num_parameters, pass_flops, text_flops


def linear_flops(x, weight, *_, **__):
    """Operations of a linear layer by oneDNN, given shapes; the counter does not know it either."""
    return 2 * math.prod(x) * weight[0]


def counted(work):
    # The counter does not know the CPU's fused attention; written as matrix products it counts the same work.
    own = {torch.ops.mkldnn._linear_pointwise: linear_flops}
    with FlopCounterMode(display=False, custom_mapping=own) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("branches", [1, 2])
def test_operations_of_a_pass_are_those_counted(branches):
    config = tiny()
    model, shape = ChunkDiT(config).eval(), ChunkShape(frames=3, height=4, width=6)
    latents, levels = torch.zeros(branches, config.in_channels, 3, 4, 6), torch.zeros(branches, 3)
    text = torch.zeros(branches, config.text_length, config.text_dim)
    with torch.no_grad():
        states = model.embed_text(text)
    assert counted(lambda: model(latents, levels, states)) == pytest.approx(
        branches * pass_flops(config, shape), rel=1e-3
    )
    assert counted(lambda: model.embed_text(text)) == pytest.approx(branches * text_flops(config), rel=1e-3)


def test_a_context_costs_what_its_tokens_cost(config, random_model, random_video):
    model, shape = random_model(config), ChunkShape(frames=2, height=4, width=6)
    one = random_video(config, chunks=1, frames=2, batch=1)
    layers = tuple(model.keys_values(one.latents, one.levels * 0, one.prompts))

    class Recalled:
        chunks, kinds, similarity = (0,), ("recent",), (1.0,)
        spans = ((layers[0].key.shape[2],),) * len(layers)

    Recalled.layers = layers
    context = prepare_context(Recalled, model=model, index=1, frames_per_chunk=2)
    states = model.embed_text(one.prompts)
    found = counted(lambda: model(one.latents, one.levels, states, context=context))
    assert found == pytest.approx(pass_flops(config, shape, context_tokens=layers[0].key.shape[2]), rel=1e-3)
    held = sum(tensor.nbytes for layer in layers for tensor in (layer.key, layer.value))
    assert held == kv_bytes(config, layers[0].key.shape[2], dtype=torch.float32)


def test_parameters_are_those_of_the_model():
    assert num_parameters(tiny()) == sum(p.numel() for p in ChunkDiT(tiny()).parameters())
    # Wan 2.1's own count; 1.3 is what its authors call it.
    assert num_parameters(wan21_1_3b()) == pytest.approx(1.419e9, rel=1e-3)


def test_bytes_of_wan_21():
    """1560 tokens a latent frame of 832 x 480, 184,320 bytes a token in half precision."""
    config = wan21_1_3b()
    assert config.num_tokens(1, 60, 104) == 1560
    assert kv_bytes(config, 1, dtype=torch.bfloat16) == 184_320
