from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_core import LayerKV, chunk_slots, prepare_context
from bdiff_core.context import ContextLayer


def recall_of(model, video, *, chunks, kinds, frames, start=None, keep=slice(None)):
    """A recall of the same stored chunk under several names; `start` None stores absolute positions."""
    stored = []
    for chunk in chunks:
        at = chunk * frames if start is None else start
        layers = model.keys_values(
            video.latents[:, :, :frames], video.levels[:, :frames], video.prompts[:, 0], start=at
        )
        stored.append(
            [LayerKV(key=x.key[:, :, keep], value=x.value[:, :, keep], position=x.position[keep]) for x in layers]
        )
    return SimpleNamespace(
        chunks=chunks,
        kinds=kinds,
        spans=tuple(tuple(len(chunk[layer].position) for chunk in stored) for layer in range(3)),
        layers=tuple(
            LayerKV(
                key=torch.cat([chunk[layer].key for chunk in stored], dim=2),
                value=torch.cat([chunk[layer].value for chunk in stored], dim=2),
                position=torch.cat([chunk[layer].position for chunk in stored]),
            )
            for layer in range(3)
        ),
    )


def test_recent_chunks_sit_right_before_the_current_one_and_others_before_them():
    assert chunk_slots(()) == ()
    assert chunk_slots(("recent",)) == (-1,)
    assert chunk_slots(("sink", "recalled", "recalled", "recent", "recent")) == (-5, -4, -3, -2, -1)
    assert chunk_slots(("recent", "recalled")) == (-1, -2)


@given(st.lists(st.sampled_from(["recent", "recalled", "sink"])))
def test_slots_are_a_dense_order(kinds):
    slots = chunk_slots(kinds)
    assert sorted(slots) == list(range(-len(kinds), 0))
    recent = [slot for slot, kind in zip(slots, kinds, strict=True) if kind == "recent"]
    others = [slot for slot, kind in zip(slots, kinds, strict=True) if kind != "recent"]
    assert recent == sorted(recent)
    assert others == sorted(others)
    assert not recent or not others or min(recent) > max(others)


@pytest.mark.parametrize("start", [None, 0], ids=["stored absolute", "stored from 0"])
def test_slots_turn_keys_to_their_slot(config, random_model, random_video, start):
    model, video = random_model(config), random_video(config, chunks=1, frames=3)
    recall = recall_of(model, video, chunks=(2, 7, 8), kinds=("recalled", "recent", "recent"), frames=3, start=start)
    context = prepare_context(recall, model=model, index=9, frames_per_chunk=3)
    position = torch.cat([model.positions(video.latents, start=3 * slot) for slot in (-3, -2, -1)])
    for layer, stored in zip(context.layers, recall.layers, strict=True):
        torch.testing.assert_close(layer.key, model.rotate(stored.key, position))
        assert torch.equal(layer.value, stored.value)


@pytest.mark.parametrize("keep", [slice(None), torch.tensor([3, 8, 17])], ids=["whole", "sparse"])
@pytest.mark.parametrize("chunks", [(0,), (3,), (0, 4), (2, 7, 8)])
@pytest.mark.parametrize("start", [None, 0], ids=["stored absolute", "stored from 0"])
def test_frames_per_chunk_is_read_from_the_positions(config, random_model, random_video, start, chunks, keep):
    model, video = random_model(config), random_video(config, chunks=1, frames=3)
    recall = recall_of(model, video, chunks=chunks, kinds=("recent",) * len(chunks), frames=3, start=start, keep=keep)
    told = prepare_context(recall, model=model, index=9, frames_per_chunk=3)
    read = prepare_context(recall, model=model, index=9)
    assert all(torch.equal(a.key, b.key) for a, b in zip(told.layers, read.layers, strict=True))


def test_a_whole_chunk_tells_its_length_wherever_it_was_stored(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=3)
    for chunks, start in (((0,), 6), ((4, 5), 9)):
        recall = recall_of(model, video, chunks=chunks, kinds=("recent",) * len(chunks), frames=3, start=start)
        told = prepare_context(recall, model=model, index=9, frames_per_chunk=3)
        read = prepare_context(recall, model=model, index=9)
        assert all(torch.equal(a.key, b.key) for a, b in zip(told.layers, read.layers, strict=True))


def test_tokens_may_be_spread_over_layers_and_chunks_or_all_be_dropped(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=3)
    whole = list(model.keys_values(video.latents, video.levels, video.prompts[:, 0]))
    kept = [torch.tensor(ids, dtype=torch.int64) for ids in ([2, 4], [17, 0], [])]  # only one layer has a last frame
    layers = [
        LayerKV(x.key[:, :, ids], x.value[:, :, ids], x.position[ids]) for x, ids in zip(whole, kept, strict=True)
    ]
    recall = SimpleNamespace(chunks=(1, 5), kinds=("recalled", "recent"), spans=((1, 1), (1, 1), (0, 0)), layers=layers)
    told = prepare_context(recall, model=model, index=6, frames_per_chunk=3)
    read = prepare_context(recall, model=model, index=6)
    assert all(torch.equal(a.key, b.key) for a, b in zip(told.layers, read.layers, strict=True))
    none = LayerKV(whole[0].key[:, :, :0], whole[0].value[:, :, :0], whole[0].position[:0])
    recall = SimpleNamespace(chunks=(1,), kinds=("recent",), spans=((0,),) * 3, layers=(none,) * 3)
    assert [layer.length for layer in prepare_context(recall, model=model, index=6).layers] == [0, 0, 0]


def test_a_layer_takes_its_fields_in_order():
    key, value, query = torch.randn(3, 1, 2, 4, 6).unbind(0)
    position = torch.zeros(4, 3, dtype=torch.int64)
    layer = LayerKV(key, value, position)
    assert layer.query is None
    assert layer.key is key
    assert layer.value is value
    assert layer.position is position
    assert LayerKV(key, value, position, query).query is query


def test_a_context_is_of_earlier_chunks(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    recall = recall_of(model, video, chunks=(3, 4), kinds=("recent",) * 2, frames=2)
    with pytest.raises(ValueError, match=r"chunk 4 cannot see chunks \[4\]"):
        prepare_context(recall, model=model, index=4)


def test_positions_are_slots_or_absolute(plain_errors, config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    recall = recall_of(model, video, chunks=(3, 4), kinds=("recent",) * 2, frames=2)
    with pytest.raises(ValueError, match="expected 'slots' or 'absolute'"):
        prepare_context(recall, model=model, index=5, positions="relative")


def test_an_empty_memory_is_no_context(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    recall = SimpleNamespace(chunks=(), kinds=(), spans=(), layers=())
    context = prepare_context(recall, model=model, index=0)
    alone = model(video.latents, video.levels, video.prompts)
    assert torch.equal(model(video.latents, video.levels, video.prompts, context=context), alone)


@settings(max_examples=8, deadline=None)
@given(reserve=st.integers(0, 20), frames_per_chunk=st.sampled_from([None, 1, 2]), seed=st.integers(0, 99))
def test_tail_and_concatenation_agree_step_after_step(
    config, random_model, random_video, relative, reserve, frames_per_chunk, seed
):
    model, video = random_model(config, seed), random_video(config, chunks=1, frames=2, seed=seed)
    recall = recall_of(model, video, chunks=(0, 1), kinds=("recent",) * 2, frames=2)
    args = video.levels, video.prompts[:, 0]
    context = prepare_context(recall, model=model, index=2, reserve=reserve)
    other = prepare_context(recall, model=model, index=2)
    for step in range(3):
        latents = video.latents + step
        with torch.no_grad():
            written = model(latents, *args, context=context, frames_per_chunk=frames_per_chunk)
        joined = model(latents, *args, context=other, frames_per_chunk=frames_per_chunk)
        assert joined.requires_grad
        torch.testing.assert_close(written, joined.detach())


def test_the_tail_is_laid_out_once_and_the_past_is_never_written():
    key, value = torch.randn(2, 1, 2, 5, 4).unbind(0)
    layer = ContextLayer(key.clone(), value.clone(), reserve=3)
    with torch.no_grad():
        first = layer.extend(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
        second = layer.extend(torch.ones(1, 2, 2, 4), torch.ones(1, 2, 2, 4))
    assert first[0].data_ptr() == second[0].data_ptr()
    assert first[1].data_ptr() == second[1].data_ptr()
    assert torch.equal(layer.key, key)
    assert torch.equal(layer.value, value)
    assert second[0].shape[2] == 7
    assert torch.equal(second[1][:, :, 5:], torch.ones(1, 2, 2, 4))


def test_gradients_reach_stored_keys(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    recall = recall_of(model, video, chunks=(0,), kinds=("recent",), frames=2)
    leaf = recall.layers[1].key.detach().requires_grad_()
    layers = (recall.layers[0], LayerKV(key=leaf, value=recall.layers[1].value, position=recall.layers[1].position))
    recall.layers = (*layers, recall.layers[2])
    context = prepare_context(recall, model=model, index=1)
    model(video.latents, video.levels, video.prompts, context=context).sum().backward()
    assert leaf.grad.abs().max() > 0


def test_a_half_precision_memory_serves_a_full_precision_model(config, random_model, random_video, relative):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    recall = recall_of(model, video, chunks=(0,), kinds=("recent",), frames=2)
    args = video.latents, video.levels, video.prompts
    with torch.no_grad():
        full = model(*args, context=prepare_context(recall, model=model, index=1))
        recall.layers = tuple(
            LayerKV(key=kv.key.half(), value=kv.value.half(), position=kv.position) for kv in recall.layers
        )
        half = prepare_context(recall, model=model, index=1)
        assert half.layers[0].key.dtype == torch.float32
        assert relative(model(*args, context=half), full) < 1e-3
        with torch.autocast("cpu", torch.bfloat16):
            mixed = prepare_context(recall, model=model, index=1)
            assert mixed.layers[0].key.dtype == torch.bfloat16
            assert relative(model(*args, context=mixed), full) < 0.05


def test_a_context_of_other_sizes_is_an_error(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    recall = recall_of(model, video, chunks=(0,), kinds=("recent",), frames=2)
    context = prepare_context(recall, model=model, index=1)
    with pytest.raises(ValueError, match="the context has 2 branches of 2 heads"):
        model(video.latents[:1], video.levels[:1], video.prompts[:1], context=context)
    recall.layers, recall.spans = recall.layers[:2], recall.spans[:2]
    with pytest.raises(ValueError, match="context has 2 layers, the model 3"):
        model(video.latents, video.levels, video.prompts, context=prepare_context(recall, model=model, index=1))
