"""Laws of the transformer and its memory, on random weights: levels, prompts and chunks are all different."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_core import LayerKV, chunk_slots, prepare_context
from bdiff_core.attention import Gather

with_and_without_gradients = pytest.mark.parametrize("gradients", [True, False], ids=["gradients", "no gradients"])


class SubsetMemory:
    """Keeps random tokens of every chunk in every layer and shows random earlier chunks, as a sparse bank may do."""

    def __init__(self, *, keep=1.0, show=1.0, seed=0):
        self.keep, self.show = keep, show
        self.generator = torch.Generator().manual_seed(seed)
        self.stored, self.kept, self.shown = [], [], []

    def write(self, layers):
        chunk, kept = [], []
        for layer in layers:
            tokens = layer.key.shape[2]
            drawn = torch.rand(tokens, generator=self.generator) < self.keep
            ids = drawn.nonzero().flatten()
            chunk.append(LayerKV(key=layer.key[:, :, ids], value=layer.value[:, :, ids], position=layer.position[ids]))
            kept.append(ids)
        self.stored.append(chunk)
        self.kept.append(kept)

    def read(self, index):
        drawn = torch.rand(index, generator=self.generator) < self.show
        chunks = [i for i in range(index) if drawn[i]]
        self.shown.append(chunks)
        layers, spans = [], []
        for number in range(len(self.stored[0]) if chunks else 0):
            parts = [self.stored[i][number] for i in chunks]
            layers.append(
                LayerKV(
                    key=torch.cat([part.key for part in parts], dim=2),
                    value=torch.cat([part.value for part in parts], dim=2),
                    position=torch.cat([part.position for part in parts]),
                )
            )
            spans.append(tuple(len(part.position) for part in parts))
        kinds = tuple("recent" if i >= index - 2 else "recalled" for i in chunks)
        return SimpleNamespace(chunks=tuple(chunks), kinds=kinds, spans=tuple(spans), layers=tuple(layers))


def run_cached(model, video, memory, *, chunks, frames, positions="absolute", offset=0):
    """Velocity of each chunk, given the keys and values that the memory shows of the chunks before it."""
    out = []
    for c in range(chunks):
        recall = memory.read(c)
        recall.chunks = tuple(i + offset for i in recall.chunks)
        context = prepare_context(recall, model=model, index=c + offset, positions=positions, frames_per_chunk=frames)
        start = (c + offset) * frames if positions == "absolute" else 0
        given_ = video.latents[:, :, video.chunk(c)], video.levels[:, video.chunk(c)], video.prompts[:, c]
        out.append(model(*given_, context=context, start=start))
        memory.write(model.keys_values(*given_, context=context, start=start))
    return torch.cat(out, dim=2)


def gradient_mode(gradients):
    return contextlib.nullcontext() if gradients else torch.no_grad()


@with_and_without_gradients
@settings(max_examples=6, deadline=None)
@given(chunks=st.integers(2, 4), frames=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_law_1_cached_chunks_equal_one_block_causal_pass(
    config, random_model, random_video, relative, gradients, chunks, frames, seed
):
    model, video = random_model(config, seed), random_video(config, chunks=chunks, frames=frames, seed=seed)
    with gradient_mode(gradients):
        whole = model(video.latents, video.levels, video.prompts, frames_per_chunk=frames)
        cached = run_cached(model, video, SubsetMemory(), chunks=chunks, frames=frames)
    assert relative(cached, whole) < 1e-4
    assert cached.requires_grad == gradients


@with_and_without_gradients
@settings(max_examples=4, deadline=None)
@given(chunks=st.integers(2, 4), seed=st.integers(0, 2**16))
def test_law_2_a_sparse_memory_equals_one_pass_with_a_mask_for_each_layer(
    config, random_model, random_video, relative, reference, gradients, chunks, seed
):
    frames, model = 2, random_model(config, seed)
    video = random_video(config, chunks=chunks, frames=frames, seed=seed)
    memory = SubsetMemory(keep=0.6, show=0.7, seed=seed)
    with gradient_mode(gradients):
        cached = run_cached(model, video, memory, chunks=chunks, frames=frames)
    tokens = config.num_tokens(frames, *video.latents.shape[3:])
    masks = [torch.zeros(chunks * tokens, chunks * tokens, dtype=torch.bool) for _ in range(config.num_layers)]
    for layer, mask in enumerate(masks):
        for c in range(chunks):
            rows = slice(c * tokens, (c + 1) * tokens)
            mask[rows, rows] = True
            for earlier in memory.shown[c]:
                mask[rows, earlier * tokens + memory.kept[earlier][layer]] = True
    for b in range(2):
        whole = reference.forward(
            model, video.latents[b], video.levels[b], video.prompts[b],
            chunk_of_frame=[f // frames for f in range(chunks * frames)],
            position=model.positions(video.latents), masks=masks,
        )  # fmt: skip
        assert relative(cached[b], whole) < 1e-4


@with_and_without_gradients
@pytest.mark.parametrize("changed", [1, 2])
def test_law_3_a_prompt_changes_no_earlier_chunk(config, random_model, random_video, gradients, changed):
    model, video = random_model(config), random_video(config, chunks=4, frames=2)
    other = video.prompts.clone()
    other[:, changed] += 1.0
    with gradient_mode(gradients):
        before = model(video.latents, video.levels, video.prompts, frames_per_chunk=2)
        after = model(video.latents, video.levels, other, frames_per_chunk=2)
    change = (before - after).abs().unflatten(2, (4, 2)).amax(dim=(0, 1, 3, 4, 5))
    assert (change == 0).tolist() == [chunk < changed for chunk in range(4)]


@with_and_without_gradients
def test_in_slots_a_video_may_begin_anywhere(config, random_model, random_video, relative, gradients):
    model, video = random_model(config), random_video(config, chunks=4, frames=2)
    with gradient_mode(gradients):
        early, late = (
            run_cached(
                model, video, SubsetMemory(show=0.8, keep=0.7), chunks=4, frames=2, positions="slots", offset=offset
            )
            for offset in (0, 10**6)
        )
    assert torch.equal(early, late)


def test_slots_equal_absolute_positions_while_nothing_is_left_out(config, random_model, random_video, relative):
    model, video = random_model(config), random_video(config, chunks=4, frames=2)
    with torch.no_grad():
        slots = run_cached(model, video, SubsetMemory(), chunks=4, frames=2, positions="slots")
        absolute = run_cached(model, video, SubsetMemory(), chunks=4, frames=2)
    assert relative(slots, absolute) < 1e-4


def test_slots_forget_how_long_ago_a_chunk_was(config, random_model, random_video, relative):
    """The same stored chunk, recalled as number 0 or as number 1 of ten, is seen alike."""
    model, video = random_model(config), random_video(config, chunks=2, frames=2)
    out = []
    for chunk, start in ((0, 0), (1, 2), (1, 0)):
        stored = list(model.keys_values(video.latents[:, :, :2], video.levels[:, :2], video.prompts[:, 0], start=start))
        recall = SimpleNamespace(
            chunks=(chunk,), kinds=("recalled",), spans=((len(stored[0].position),),) * 3, layers=tuple(stored)
        )
        context = prepare_context(recall, model=model, index=10, frames_per_chunk=2)
        out.append(model(video.latents[:, :, 2:], video.levels[:, 2:], video.prompts[:, 1], context=context))
    assert relative(out[1], out[0]) < 1e-5
    assert relative(out[2], out[0]) < 1e-5


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**16), num_recalled=st.integers(0, 2), copies=st.integers(1, 3))
def test_gathered_chunks_equal_the_context_path(
    config, random_model, random_video, relative, seed, num_recalled, copies
):
    """What training computes for noisy copies of a chunk is what sampling computes for that chunk."""
    frames, past = 2, num_recalled + 2
    model = random_model(config, seed)
    video = random_video(config, chunks=past + copies, frames=frames, seed=seed)
    kinds = ("recalled",) * num_recalled + ("recent",) * 2
    slots = (*chunk_slots(kinds), *(0,) * copies)
    visible = torch.eye(past + copies, dtype=torch.bool)
    visible[:, :past] |= torch.ones(past + copies, past).tril().bool()
    tokens = config.num_tokens(frames, *video.latents.shape[3:])
    keep = torch.rand(2, past + copies, tokens, generator=torch.Generator().manual_seed(seed)) < 0.7
    keep[1] = keep[0]  # one kept set for both branches
    gather = Gather(slots=torch.tensor([slots] * 2), visible=visible.expand(2, -1, -1), keep=keep)
    gathered = model.gathered(video.latents, video.levels, video.prompts, gather, frames_per_chunk=frames)

    stored = []

    def context_of(chunks):
        recall = SimpleNamespace(
            chunks=tuple(range(chunks)),
            kinds=kinds[:chunks],
            spans=tuple(tuple(len(stored[i][layer].position) for i in range(chunks)) for layer in range(3)),
            layers=tuple(
                LayerKV(
                    key=torch.cat([stored[i][layer].key for i in range(chunks)], dim=2),
                    value=torch.cat([stored[i][layer].value for i in range(chunks)], dim=2),
                    position=torch.cat([stored[i][layer].position for i in range(chunks)]),
                )
                for layer in range(3)
            )
            if chunks
            else (),
        )
        return prepare_context(recall, model=model, index=past, positions="absolute")

    for c in range(past + copies):
        given_ = video.latents[:, :, video.chunk(c)], video.levels[:, video.chunk(c)], video.prompts[:, c]
        where = {"context": context_of(min(c, past)), "start": slots[c] * frames}
        assert relative(model(*given_, **where), gathered[:, :, video.chunk(c)]) < 1e-4
        if c < past:
            ids = keep[0, c].nonzero().flatten()
            stored.append(
                [
                    LayerKV(key=kv.key[:, :, ids], value=kv.value[:, :, ids], position=kv.position[ids])
                    for kv in model.keys_values(*given_, **where)
                ]
            )


def test_gradients_of_the_cached_path_equal_those_of_one_pass(config, random_model, random_video, relative):
    model, video = random_model(config), random_video(config, chunks=3, frames=2)
    weight = torch.randn(video.latents.shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for run in (
        lambda: model(video.latents, video.levels, video.prompts, frames_per_chunk=2),
        lambda: run_cached(model, video, SubsetMemory(), chunks=3, frames=2),
    ):
        model.zero_grad()
        (run() * weight).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        assert expected.abs().max() > 0, name
        assert relative(gradients[1][name], expected) < 1e-3, name
