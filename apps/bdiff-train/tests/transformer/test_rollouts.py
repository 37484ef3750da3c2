"""Roll-outs with the real parts in the loop: the transformer, `generate` and a memory that recalls and selects."""

import pytest
import torch
from torch import nn

from bdiff_core import ChunkCondition, ChunkDiT, ModelConfig, generate
from bdiff_train.engine import step_generator
from bdiff_train.transformer import RolloutConfig
from bdiff_train.transformer.rollouts import Window, roll_out
from forcing_losses import Truncation, self_forcing_rollout
from kvbank import KVBank, SemanticSparse
from noisesched import NoiseStream, denoising_grid

FRAMES, TOKENS = 1, 4  # latent frames and tokens of a chunk


TINY = ModelConfig(
    dim=24, num_layers=2, num_heads=2, ffn_dim=24, in_channels=2, out_channels=2, text_dim=6, text_length=3
)


POLICY = SemanticSparse(top_l=1, num_recent=1, coverage=0.8)


WHOLE = {"random_exit": False, "last_step_only": False, "detach_memory": False}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ChunkDiT(TINY).double()
    nn.init.normal_(model.head.project.weight, std=0.2)
    return model


def video(model, num_chunks, **cuts):
    """All latents of a roll-out, and the bank that it left."""
    texts = torch.randn(num_chunks, 3, 6, generator=torch.Generator().manual_seed(1))
    conditions = [
        ChunkCondition(index=c, text=text, negative=torch.zeros_like(text), embedding=torch.eye(2)[c % 2])
        for c, text in enumerate(texts)
    ]
    noise = NoiseStream((2, 4, 4), FRAMES, seed=2, base="fresh")
    bank = KVBank(policy=POLICY, rotate=model.rotate, seed=3)

    def generate_chunk(index, *, memory, grid, solver):
        made = generate(model, [conditions[index]], memory=memory, noise=noise, grid=grid, solver=solver)
        return next(made).latents

    rolled_out = self_forcing_rollout(
        generate_chunk,
        range(num_chunks),
        memory=bank,
        grid=denoising_grid(2, shift=3.0),
        seed=0,
        truncation=Truncation(**cuts),
    )
    return torch.cat([chunk.latents for chunk in rolled_out], dim=2), bank


def loss(model, **cuts):
    made, _ = video(model, 4, **cuts)
    return (made * torch.linspace(-1, 1, made.numel(), dtype=made.dtype).view_as(made)).sum()


def gradient(model, **cuts):
    found = torch.autograd.grad(loss(model, **cuts), list(model.parameters()), allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, model.parameters(), strict=True)]


def length(direction):
    return sum(part.square().sum().item() for part in direction) ** 0.5


def slope(model, direction):
    """Of the untruncated loss along a direction of all weights, by central differences: they know of no graph."""
    unit, values = 1e-3, {}
    weights = [(weight, weight.clone()) for weight in model.parameters()]
    with torch.no_grad():
        for step in (-2, -1, 1, 2):
            for (weight, start), change in zip(weights, direction, strict=True):
                weight.copy_(start + step * unit * change)
            values[step] = loss(model, **WHOLE).item()
        for weight, start in weights:
            weight.copy_(start)
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * unit)


@pytest.mark.parametrize("cut", [{}, {"last_step_only": True}, {"detach_memory": True}, {"last_chunks": 2}], ids=str)
def test_without_truncation_gradients_are_those_of_full_back_propagation(model, cut):
    """The slopes along the gradient, and along the part of it that each cut drops: it is there, and it is right."""
    full = gradient(model, **WHOLE)
    direction = full if not cut else [a - b for a, b in zip(full, gradient(model, **WHOLE | cut), strict=True)]
    assert length(direction) > 1e-2 * length(full)
    direction = [part / length(direction) for part in direction]
    along = sum((g * d).sum().item() for g, d in zip(full, direction, strict=True))
    assert slope(model, direction) == pytest.approx(along, abs=1e-4 * length(full))


def test_the_video_recalls_selects_and_is_the_same_for_every_cut(model):
    whole, bank = video(model, 4, **WHOLE)
    assert "recalled" in bank.trace[-1].kinds
    assert sum(bank.trace[-1].spans[0]) < 2 * TOKENS
    for cut in ({"last_step_only": True}, {"detach_memory": True}, {"last_chunks": 2}):
        torch.testing.assert_close(video(model, 4, **WHOLE | cut)[0], whole, rtol=1e-5, atol=1e-5)


def graph_bytes(model, num_chunks, **cuts):
    """Bytes of the distinct tensors that the graph of a whole roll-out holds."""
    held = {}

    def note(tensor):
        held[tensor.untyped_storage().data_ptr()] = (
            tensor.untyped_storage().nbytes(),
            tensor,
        )  # kept: no address twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        made, _ = video(model, num_chunks, **cuts)
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    assert made.requires_grad
    return sum(size for address, (size, _) in held.items() if address not in own)


def test_memory_is_flat_in_the_number_of_chunks_when_truncated(model):
    cuts = {"random_exit": False, "last_chunks": 2}
    few, many = (graph_bytes(model, count, **cuts) for count in (5, 15))
    assert many < 1.05 * few
    few, many = (graph_bytes(model, count, **WHOLE) for count in (5, 15))
    assert many > 2 * few


def test_a_roll_out_keeps_what_is_given_and_is_a_function_of_its_window(make_data, small_model):
    data, model = make_data(), small_model()
    length = data.stories.frames_per_chunk
    window = Window.draw(data.stories, 3, generator=step_generator(0, 0))
    rollouts = [
        roll_out(model, data.stories, window, config=RolloutConfig(chunks=3, given=1, steps=2), policy=data.policy)
        for _ in range(2)
    ]
    assert torch.equal(rollouts[0].generated, rollouts[1].generated)
    assert torch.equal(rollouts[0].generated[:, :, :length], rollouts[0].real[:, :, :length])
    assert not torch.equal(rollouts[0].generated[:, :, length:], rollouts[0].real[:, :, length:])
    first = window.start * length
    truth = data.stories.latents[window.story, first : first + 3 * length].transpose(0, 1)
    assert torch.equal(rollouts[0].real[0], truth)
    rollouts[0].generated.sum().backward()
    assert model.head.project.weight.grad.any()


def test_a_roll_out_longer_than_the_stories_is_refused(make_data):
    with pytest.raises(ValueError, match="a roll-out has 9 chunks; the stories have 5"):
        Window.draw(make_data().stories, 9, generator=step_generator(0, 0))
