"""The loop: what it computes, what it depends on, and that it can be left and entered again."""

from itertools import pairwise

import pytest
import torch

from bdiff_core import Chunk, ChunkCondition, Context, LayerKV, chunk_slots, euler, generate, prepare_context

FRAMES, SIZE = 2, (4, 4)
GRID = torch.tensor([1.0, 0.7, 0.3, 0.0])


class Recent:
    """A memory that keeps every token of the last chunks."""

    def __init__(self, num_chunks=2):
        self.num_chunks, self.stored, self.announced = num_chunks, {}, []

    def read(self, index, *, embedding):
        chunks = tuple(c for c in range(index - self.num_chunks, index) if c in self.stored)
        layers = []
        for parts in zip(*(self.stored[c] for c in chunks), strict=True):
            key, value = (torch.cat([getattr(p, name) for p in parts], dim=2) for name in ("key", "value"))
            layers.append(LayerKV(key=key, value=value, position=torch.cat([p.position for p in parts])))
        spans = tuple(tuple(self.stored[c][n].key.shape[2] for c in chunks) for n in range(len(layers)))
        return Found(chunks, ("recent",) * len(chunks), spans, tuple(layers))

    def write(self, index, layers, *, embedding):
        self.stored[index] = list(layers)

    def prefetch(self, index, *, embedding):
        self.announced.append((index, max(self.stored, default=-1)))


class Found:
    def __init__(self, chunks, kinds, spans, layers):
        self.chunks, self.kinds, self.spans, self.layers = chunks, kinds, spans, layers
        self.similarity = (0.0,) * len(chunks)


class Noise:
    """A chunk's noise is a function of (seed, chunk)."""

    def __init__(self, channels, seed=0):
        self.channels, self.seed = channels, seed

    def chunk(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        return torch.randn(FRAMES, self.channels, *SIZE, generator=generator)


class CountingDecoder:
    """Shows which chunk was decoded after which."""

    def decode(self, latents, state=None):
        return latents[:, :3], (state or 0) + 1


def conditions(config, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randn(count, config.text_length, config.text_dim, generator=generator)
    return [
        ChunkCondition(index=i, text=text, negative=torch.zeros_like(text), embedding=text.mean(0))
        for i, text in enumerate(texts)
    ]


def run(model, chunks, **options):
    options = {"memory": Recent(), "noise": Noise(model.config.in_channels), "grid": GRID} | options
    with torch.no_grad():
        return list(generate(model, chunks, **options))


@pytest.fixture(scope="module")
def model(config, random_model):
    return random_model(config)


@pytest.mark.parametrize("positions", ["slots", "absolute"])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_loop_is_the_algorithm_written_out(model, config, positions, guidance):
    """An independent loop: each branch alone, contexts concatenated by hand, Euler by hand."""
    chunks = conditions(config, 4)
    made = run(model, chunks, positions=positions, guidance=guidance)
    memories = [Recent(), Recent()]
    for chunk, result in zip(chunks, made, strict=True):
        x = Noise(config.in_channels).chunk(chunk.index).transpose(0, 1)[None]
        start = chunk.index * FRAMES if positions == "absolute" else 0
        passes = []
        for memory, text in zip(memories, (chunk.text, chunk.negative), strict=True):
            recall = memory.read(chunk.index, embedding=None)
            context = prepare_context(
                recall, model=model, index=chunk.index, positions=positions, frames_per_chunk=FRAMES
            )
            passes.append((memory, text[None], context))
        with torch.no_grad():
            for level, after in ((1.0, 0.7), (0.7, 0.3), (0.3, 0.0)):
                told, null = (
                    model(x, torch.full((1, FRAMES), level), text, context=context, start=start)
                    for _, text, context in passes
                )
                x = x + (after - level) * (null + guidance * (told - null))
            for memory, text, context in passes:
                layers = model.keys_values(x, torch.zeros(1, FRAMES), text, context=context, start=start)
                memory.write(chunk.index, layers, embedding=None)
        torch.testing.assert_close(result.latents, x, rtol=2e-4, atol=2e-4)


def test_law_3_a_prompt_changes_no_earlier_chunk(model, config):
    chunks = conditions(config, 4)
    edited = [*chunks[:2], conditions(config, 4, seed=9)[2], chunks[3]]
    before, after = run(model, chunks), run(model, edited)
    for c in (0, 1):
        assert torch.equal(before[c].latents, after[c].latents)
    for c in (2, 3):
        assert not torch.allclose(before[c].latents, after[c].latents, atol=1e-3)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_law_5_going_on_after_a_chunk_gives_the_same_numbers(model, config, stop):
    chunks = conditions(config, 4)
    whole = run(model, chunks, decoder=CountingDecoder())
    memory = Recent()
    head = run(model, chunks[:stop], memory=memory, decoder=CountingDecoder())
    tail = run(model, chunks[stop:], memory=memory, decoder=CountingDecoder(), decoder_state=head[-1].decoder_state)
    for one, other in zip(whole, [*head, *tail], strict=True):
        assert torch.equal(one.latents, other.latents)
        assert one.decoder_state == other.decoder_state == one.index + 1


def test_the_memory_is_told_ahead_what_is_read_next(model, config):
    memory = Recent()
    run(model, conditions(config, 4), memory=memory)
    assert memory.announced == [(1, -1), (2, 0), (3, 1)]  # while the chunk before it is made, so before that is written


def test_an_iterator_of_chunks_is_asked_late(model, config):
    asked = []

    def chunks():
        for chunk in conditions(config, 3):
            asked.append(chunk.index)
            yield chunk

    memory = Recent()
    for made in generate(model, chunks(), memory=memory, noise=Noise(model.config.in_channels), grid=GRID):
        assert asked[-1] == made.index
    assert memory.announced == []


def test_a_prefix_is_yielded_and_remembered(model, config):
    chunks = conditions(config, 4)
    whole = run(model, chunks)
    prefix = {chunk.index: chunk.latents for chunk in whole[:2]}
    again = run(model, chunks, prefix=prefix)
    for one, other in zip(whole, again, strict=True):
        torch.testing.assert_close(one.latents, other.latents)
    assert torch.equal(again[0].latents, prefix[0])
    other = run(model, chunks, prefix={index: x + 1.0 for index, x in prefix.items()})
    assert not torch.allclose(other[2].latents, whole[2].latents, atol=1e-3)


def test_any_chunks_may_be_given(model, config):
    """Giving what would have been generated changes nothing; giving something else changes what comes after it."""
    chunks = conditions(config, 5)
    whole = run(model, chunks, decoder=CountingDecoder())
    given = {index: whole[index].latents for index in (0, 3)}
    again = run(model, chunks, prefix=given, decoder=CountingDecoder())
    assert [chunk.decoder_state for chunk in again] == [1, 2, 3, 4, 5]
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one.latents, other.latents)
    changed = run(model, chunks, prefix=given | {3: given[3] + 1.0})
    assert torch.equal(changed[3].latents, given[3] + 1.0)
    assert torch.equal(changed[2].latents, whole[2].latents)
    assert not torch.allclose(changed[4].latents, whole[4].latents, atol=1e-3)


def test_given_chunks_matter_through_the_memory_alone(model, config):
    """Noise is a function of the chunk, so a chunk that cannot see the given ones is as if none were given."""
    chunks = conditions(config, 4)
    plain = run(model, chunks, memory=Recent(1))
    given = {index: torch.ones_like(plain[0].latents) for index in (0, 1)}
    made = run(model, chunks, memory=Recent(1), prefix=given)
    assert not torch.allclose(made[2].latents, plain[2].latents, atol=1e-3)  # sees chunk 1
    blind = [run(model, chunks, memory=Recent(0), prefix=prefix) for prefix in (None, given)]
    for index in (2, 3):
        assert torch.equal(blind[0][index].latents, blind[1][index].latents)


def test_a_mapping_goes_by_the_number_of_the_chunk(model, config):
    """A video that is continued takes the same mapping."""
    chunks = conditions(config, 4)
    given = {index: torch.full((1, config.in_channels, FRAMES, *SIZE), float(index)) for index in (1, 3)}
    whole = run(model, chunks, prefix=given)
    memory = Recent()
    head = run(model, chunks[:2], memory=memory, prefix=given)
    tail = run(model, chunks[2:], memory=memory, prefix=given)
    for one, other in zip(whole, [*head, *tail], strict=True):
        assert torch.equal(one.latents, other.latents)


def test_slots_forget_the_number_of_the_chunk(model, config):
    """Eight chunks of the same prompt and noise settle on numbers that do not depend on where they are."""

    class Same(Noise):
        def chunk(self, index):
            return super().chunk(0)

    first = conditions(config, 1)[0]
    shifted = [
        [ChunkCondition(index=base + i, text=first.text, negative=first.negative, embedding=first.embedding)
         for i in range(3)] for base in (0, 100)
    ]  # fmt: skip
    near, far = (run(model, chunks, noise=Same(config.in_channels)) for chunks in shifted)
    for one, other in zip(near, far, strict=True):
        torch.testing.assert_close(one.latents, other.latents)


def test_gradients_reach_the_first_chunk_through_the_memory(model, config):
    """The loop sets no grad mode; with gradients it gives the numbers it gives without."""
    chunks = conditions(config, 3)
    plain = run(model, chunks)
    text = chunks[0].text.clone().requires_grad_()
    first = ChunkCondition(index=0, text=text, negative=chunks[0].negative, embedding=chunks[0].embedding)
    noise, memory = Noise(config.in_channels), Recent()
    made = list(generate(model, [first, *chunks[1:]], memory=memory, noise=noise, grid=GRID))
    torch.testing.assert_close(made[2].latents, plain[2].latents, rtol=1e-4, atol=1e-4)
    made[2].latents.square().sum().backward()
    assert text.grad.abs().sum() > 0
    for parameter in model.parameters():
        parameter.grad = None


def test_euler_converges_at_first_order():
    """dx/dt = x from t = 1 to 0, exact: x(0) = x(1) / e."""
    errors = []
    for steps in (20, 40, 80):
        x, grid = torch.ones(1, dtype=torch.float64), torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
        for level, after in pairwise(grid):
            x = euler(x, x, level, after)
        errors.append(abs(x.item() - torch.tensor(-1.0, dtype=torch.float64).exp().item()))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.05)


def test_a_chunk_takes_its_fields_in_order():
    latents, frames, recall = torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 3, 5, 32, 32), object()
    chunk = Chunk(3, latents, frames, recall)
    assert (chunk.index, chunk.decoder_state) == (3, None)
    assert chunk.latents is latents
    assert chunk.frames is frames
    assert chunk.recall is recall


def test_a_grid_may_be_a_plain_list(model, config):
    expected = run(model, conditions(config, 1), grid=torch.tensor([1.0, 0.25, 0.0]))
    made = run(model, conditions(config, 1), grid=[1, 0.25, 0])
    assert torch.equal(made[0].latents, expected[0].latents)


@pytest.mark.parametrize("grid", [[1.0], [1.0, 0.5], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
def test_a_grid_must_fall_to_zero(model, config, grid):
    with pytest.raises(ValueError, match="decreasing levels that end at 0"):
        run(model, conditions(config, 1), grid=torch.tensor(grid))


def test_a_prefix_of_parts_of_chunks_is_refused(model, config):
    latents = torch.zeros(1, config.in_channels, FRAMES + 1, *SIZE)
    for index in (1, 2):
        with pytest.raises(ValueError, match=f"for chunk {index}; expected whole chunks"):
            run(model, conditions(config, 3), prefix={index: latents})


def test_a_prefix_that_is_a_tensor_is_refused_with_the_way_out(plain_errors, model, config):
    latents = torch.zeros(1, config.in_channels, 2 * FRAMES, *SIZE)
    with pytest.raises(TypeError, match=r"prefix is a Tensor; expected a mapping .* dict\(enumerate\(latents.split"):
        run(model, conditions(config, 3), prefix=latents)
    assert len(run(model, conditions(config, 3), prefix=dict(enumerate(latents.split(FRAMES, dim=2))))) == 3


def test_the_grid_is_checked_once(model, config):
    """Levels are read when the loop begins; whatever becomes of the grid later, every chunk has the same steps."""
    grid = torch.tensor([1.0, 0.5, 0.0])
    expected = run(model, conditions(config, 2), grid=grid.clone())
    made = generate(model, conditions(config, 2), memory=Recent(), noise=Noise(config.in_channels), grid=grid)
    with torch.no_grad():
        first = next(made)
        grid.fill_(float("nan"))
        second = next(made)
    assert torch.equal(first.latents, expected[0].latents)
    assert torch.equal(second.latents, expected[1].latents)


def test_an_empty_memory_gives_an_empty_context(model):
    context = prepare_context(Recent().read(0, embedding=None), model=model, index=0)
    assert context == Context(layers=(), positions="slots")
    assert chunk_slots(()) == ()
