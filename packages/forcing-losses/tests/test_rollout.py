"""Roll-outs on a tiny recurrent model: a velocity that sees the memory, and a memory that every chunk changes."""

import weakref
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcing_losses import Truncation, self_forcing_rollout

GRID = (1.0, 0.8, 0.45, 0.2, 0.0)
SHAPE = (2, 3, 2, 1, 2)  # b c t h w
WHOLE = {"random_exit": False, "last_step_only": False, "detach_memory": False}


@dataclass(frozen=True)
class State:
    """What a chunk leaves behind: one layer of a memory."""

    summary: torch.Tensor


class Recurrent(torch.nn.Module):
    """velocity(x, level, memory), and the memory after a chunk."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(0.5 * torch.randn(3, 3, generator=generator, dtype=torch.float64)) for _ in range(4)
        )

    def velocity(self, x, level, memory):
        own, seen, *_ = self.weights
        x = torch.einsum("oc,bcthw->bothw", own, torch.tanh(x) * (1 + level))
        return x if memory is None else x + torch.einsum("oc,bcthw->bothw", seen, memory)

    def remember(self, x, memory):
        *_, write, keep = self.weights
        summary = torch.einsum("oc,bcthw->bothw", write, torch.tanh(x))
        return summary if memory is None else summary + torch.einsum("oc,bcthw->bothw", keep, memory)


class Shelf:
    """A memory that keeps the newest state."""

    def __init__(self):
        self.state, self.announced = None, []

    def read(self, index, *, embedding):
        return self.state

    def write(self, index, layers, *, embedding):
        (self.state,) = layers

    def prefetch(self, index, *, embedding):
        self.announced.append(index)


def noise(index):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(index), dtype=torch.float64)


def chunk_generator(model):
    """The loop of `bdiff_core.generate`, on the tiny model: read, walk the grid, write, layer by layer."""

    def generate_chunk(index, *, memory, grid, solver):
        memory.prefetch(index, embedding=None)
        state = memory.read(index, embedding=None)
        summary = None if state is None else state.summary
        x = noise(index)
        for level, next_level in pairwise(grid):
            x = solver(x, model.velocity(x, level, summary), level, next_level)
        memory.write(index, (State(model.remember(x, summary)) for _ in range(1)), embedding=None)
        return x

    return generate_chunk


def roll(model, num_chunks, *, seed=0, memory=None, **truncation):
    memory = Shelf() if memory is None else memory
    return self_forcing_rollout(
        chunk_generator(model),
        range(num_chunks),
        memory=memory,
        grid=GRID,
        seed=seed,
        truncation=Truncation(**truncation),
    )


def gradients(model, latents):
    """Gradients of a loss on the whole video."""
    video = torch.cat(latents, dim=2)
    loss = (video * torch.linspace(-1, 1, video.numel(), dtype=video.dtype).view_as(video)).sum() + video.square().sum()
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros(3, 3, dtype=torch.float64) if gradient is None else gradient for gradient in found]


def reference_latents(slow, model, num_chunks, *, random_exit, exits, **cuts):
    if not random_exit:
        exits = [len(GRID) - 2] * num_chunks
    cuts = {"last_step_only": True, "detach_memory": True, "last_chunks": None} | cuts
    return slow.rollout(
        num_chunks, GRID, exits, model.velocity, model.remember, noise=[noise(i) for i in range(num_chunks)], **cuts
    )


@given(
    num_chunks=st.integers(1, 5),
    seed=st.integers(0, 2**62),
    random_exit=st.booleans(),
    last_step_only=st.booleans(),
    detach_memory=st.booleans(),
    last_chunks=st.none() | st.integers(1, 6),
)
def test_latents_and_gradients_are_those_of_the_loop_written_out(slow, num_chunks, seed, random_exit, **cuts):
    model = Recurrent()
    made = list(roll(model, num_chunks, seed=seed, random_exit=random_exit, **cuts))
    exits = [chunk.exit_step for chunk in made]
    expected = reference_latents(slow, model, num_chunks, random_exit=random_exit, exits=exits, **cuts)
    torch.testing.assert_close([chunk.latents for chunk in made], expected)
    torch.testing.assert_close(gradients(model, [chunk.latents for chunk in made]), gradients(model, expected))


def test_without_truncation_the_gradient_is_the_slope_of_the_loss():
    """Central differences on every weight know nothing of graphs: full back-propagation, through memory and steps."""
    model = Recurrent()

    def loss():
        return torch.cat([chunk.latents for chunk in roll(model, 4, **WHOLE)], dim=2).square().sum()

    whole = torch.autograd.grad(loss(), list(model.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(model.parameters(), whole, strict=True):
            slopes = torch.empty_like(weight)
            for at in range(9):
                losses = []
                for step in (1e-6, -2e-6):
                    weight.view(-1)[at] += step
                    losses.append(loss())
                weight.view(-1)[at] += 1e-6
                slopes.view(-1)[at] = (losses[0] - losses[1]) / 2e-6
            assert (slopes - gradient).norm() < 1e-4 * gradient.norm()


def test_each_cut_changes_the_gradient_and_no_latent():
    model = Recurrent()
    whole = [chunk.latents for chunk in roll(model, 4, **WHOLE)]
    whole_gradient = gradients(model, whole)[0]
    for cut in ({"last_step_only": True}, {"detach_memory": True}, {"last_chunks": 2}):
        cut_off = [chunk.latents for chunk in roll(model, 4, **WHOLE | cut)]
        assert all(map(torch.equal, whole, cut_off))
        assert not torch.allclose(gradients(model, cut_off)[0], whole_gradient)


@pytest.mark.parametrize("last_chunks", [1, 2, 5, 9])
def test_gradient_goes_through_the_last_chunks_only(last_chunks):
    made = list(roll(Recurrent(), 5, last_chunks=last_chunks))
    assert [chunk.latents.requires_grad for chunk in made] == [5 - chunk.index <= last_chunks for chunk in made]


def test_a_detached_memory_holds_no_graph():
    memory = Shelf()
    for _ in roll(Recurrent(), 3, memory=memory):
        assert not memory.state.summary.requires_grad
    for _ in roll(Recurrent(), 3, memory=memory, detach_memory=False):
        assert memory.state.summary.requires_grad
    assert memory.announced == [0, 1, 2] * 2


def test_layers_that_were_computed_before_are_detached_too():
    """Whatever holds the tensors: a tensor itself, a dataclass, a mapping, a sequence."""
    weight = torch.ones(1, requires_grad=True)

    class Keeper(Shelf):
        def write(self, index, layers, *, embedding):
            self.state = list(layers)

    def generate_chunk(index, *, memory, grid, solver):
        made = weight * 2
        memory.write(index, [made, State(made), {"key": made}, (made, [made], 7)], embedding=None)
        return noise(index)

    memory = Keeper()
    list(self_forcing_rollout(generate_chunk, [0], memory=memory, grid=GRID, seed=0))
    tensor, state, mapping, (first, (second,), number) = memory.state
    held = [tensor, state.summary, mapping["key"], first, second]
    assert all(torch.equal(part, torch.full((1,), 2.0)) and not part.requires_grad for part in held)
    assert number == 7


class SavedTensors:
    """Counts the tensors that graphs keep: `alive` now, `peak` at most."""

    def __init__(self):
        self.peak, self._held = 0, weakref.WeakSet()

    @property
    def alive(self):
        return len(self._held)

    def __enter__(self):
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda saved: saved.tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)

    def _pack(self, tensor):
        saved = Saved(tensor.detach())  # an output that kept its graph would keep itself alive
        self._held.add(saved)
        self.peak = max(self.peak, self.alive)
        return saved


class Saved:
    def __init__(self, tensor):
        self.tensor = tensor


def graph_size(rollout):
    """Saved tensors at most, and while the caller holds every chunk."""
    with SavedTensors() as saved:
        held = [chunk.latents for chunk in rollout]
        assert held[-1].requires_grad
        return saved.peak, saved.alive


@pytest.mark.parametrize("cuts", [{"last_chunks": 2}, {"last_chunks": 2} | WHOLE])
def test_a_truncated_graph_is_as_large_for_many_chunks_as_for_few(cuts):
    few, many = (graph_size(roll(Recurrent(), n, **cuts)) for n in (3, 24))
    assert few[1] > 0
    if cuts.get("random_exit", True):
        # Steps before the exit are dropped: what is left is one step a chunk, whichever it was.
        assert many[1] == few[1]
        assert many[0] <= few[1] * 2
    else:
        assert many == few


def test_a_whole_graph_grows_with_the_chunks():
    few, many = (graph_size(roll(Recurrent(), n, **WHOLE)) for n in (3, 24))
    assert many[1] > 6 * few[1]


def test_steps_before_the_last_leave_nothing_in_the_graph():
    one_step = graph_size(roll(Recurrent(), 3, random_exit=False))
    all_steps = graph_size(roll(Recurrent(), 3, random_exit=False, last_step_only=False))
    assert one_step[1] * 3 < all_steps[1]


def test_no_graph_outlives_a_chunk_that_the_caller_lets_go():
    """Backward chunk by chunk: with a detached memory, each chunk's tensors are gone before the next is made."""
    counts = []
    with SavedTensors() as saved:
        for chunk in roll(Recurrent(), 6):
            chunk.latents.square().mean().backward()
            del chunk
            counts.append(saved.alive)
    assert counts == [0] * 6
    assert saved.peak > 0


def test_exit_steps_are_a_function_of_seed_and_chunk():
    first = {chunk.index: chunk.exit_step for chunk in roll(Recurrent(), 8, seed=5)}
    later = self_forcing_rollout(chunk_generator(Recurrent()), [6, 3], memory=Shelf(), grid=GRID, seed=5)
    assert [(chunk.index, chunk.exit_step) for chunk in later] == [(6, first[6]), (3, first[3])]
    assert first != {chunk.index: chunk.exit_step for chunk in roll(Recurrent(), 8, seed=6)}


def test_every_step_is_left_equally_often():
    """Of 2,000 draws over 4 steps each gets 500, within five standard deviations of 19."""
    memory = Shelf()
    rollout = self_forcing_rollout(lambda index, **_: noise(0), range(2000), memory=memory, grid=GRID, seed=1)
    counts = torch.tensor([chunk.exit_step for chunk in rollout]).bincount(minlength=4)
    assert (counts - 500).abs().max() < 97


def test_a_chunk_walks_the_grid_to_its_exit_and_then_to_level_0():
    walked = []

    def generate_chunk(index, *, memory, grid, solver):
        walked.append(grid)
        return noise(index)

    made = list(self_forcing_rollout(generate_chunk, range(9), memory=Shelf(), grid=torch.tensor(GRID), seed=0))
    assert [grid[-2] for grid in walked] == [chunk.exit_level for chunk in made]
    for grid, chunk in zip(walked, made, strict=True):
        assert grid == pytest.approx((*GRID[: chunk.exit_step + 1], 0.0))


def test_the_solver_is_the_callers():
    """A solver that adds noise again, from the clean estimate: the last step gives that estimate itself."""
    model = Recurrent()

    def renoise(x, velocity, level, next_level):
        return (1 - next_level) * (x - level * velocity) + next_level * noise(99)

    options = {"memory": Shelf(), "grid": (1.0, 0.5, 0.0), "seed": 0, "truncation": Truncation(random_exit=False)}
    (chunk,) = self_forcing_rollout(chunk_generator(model), [0], solver=renoise, **options)
    x = noise(0) - model.velocity(noise(0), 1.0, None)
    x = 0.5 * x + 0.5 * noise(99)
    torch.testing.assert_close(chunk.latents, x - 0.5 * model.velocity(x, 0.5, None))


def test_gradients_stay_off_where_the_caller_has_them_off():
    with torch.no_grad():
        assert not any(chunk.latents.requires_grad for chunk in roll(Recurrent(), 2))
    rollout = roll(Recurrent(), 2, last_chunks=1)
    next(rollout)
    assert torch.is_grad_enabled()


def test_arguments_that_do_not_fit_are_named_before_anything_is_generated():
    with pytest.raises(ValueError, match="last_chunks is 0; expected at least 1, or None"):
        Truncation(last_chunks=0)
    for grid in ((1.0,), (0.5, 0.5, 0.0), (1.0, 0.5)):
        with pytest.raises(ValueError, match=r"grid is \[.*\]; expected at least two decreasing levels that end at 0"):
            self_forcing_rollout(chunk_generator(Recurrent()), [0], memory=Shelf(), grid=grid, seed=0)
