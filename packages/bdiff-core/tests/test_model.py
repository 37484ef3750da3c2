import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bdiff_core import PRESETS, ChunkDiT, ModelConfig, tiny
from bdiff_core.attention import Gather
from bdiff_core.rope import rotate, rotation


def test_bidirectional_pass_equals_the_slow_reference(config, random_model, random_video, relative, reference):
    model, video = random_model(config), random_video(config, chunks=1, frames=3, batch=1)
    levels = torch.rand(1, 3)
    slow = reference.forward(
        model, video.latents[0], levels[0], video.prompts[0],
        chunk_of_frame=[0] * 3, position=model.positions(video.latents), masks=[None] * 3,
    )  # fmt: skip
    assert relative(model(video.latents, levels, video.prompts[:, 0])[0], slow) < 1e-5


@settings(max_examples=8, deadline=None)
@given(
    head_dim=st.sampled_from([2, 12, 20, 36]),
    num_heads=st.integers(1, 3),
    chunks=st.integers(1, 3),
    frames=st.integers(1, 3),
    start=st.integers(-(10**4), 10**4),
    seed=st.integers(0, 2**16),
)
def test_block_causal_pass_equals_the_slow_reference(
    random_model, random_video, relative, reference, head_dim, num_heads, chunks, frames, start, seed
):
    assume(head_dim * num_heads > 4)  # two channels that nearly agree are normalised to 1 and -1, on either side
    config = ModelConfig(
        dim=head_dim * num_heads, num_layers=2, num_heads=num_heads, ffn_dim=24, in_channels=2, out_channels=2,
        patch_size=(1, 1, 2), text_dim=8, text_length=5, freq_dim=8, rope_theta=1000.0,
    )  # fmt: skip
    model, video = random_model(config, seed), random_video(config, chunks=chunks, frames=frames, batch=1, size=(2, 4))
    chunk = torch.arange(chunks).repeat_interleave(frames)
    token_chunk = chunk.repeat_interleave(config.num_tokens(1, 2, 4))
    slow = reference.forward(
        model, video.latents[0], video.levels[0], video.prompts[0], chunk_of_frame=chunk,
        position=model.positions(video.latents, start=start), masks=[token_chunk[:, None] >= token_chunk] * 2,
    )  # fmt: skip
    fast = model(video.latents, video.levels, video.prompts, frames_per_chunk=frames, start=start)
    # 10,000 frames are 10,000 radians: float32 cosines of them would already miss this bound.
    assert relative(fast[0], slow) < 5e-5


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), chunks=st.integers(1, 4), drop=st.booleans())
def test_gathered_chunks_equal_the_slow_reference(
    config, random_model, random_video, relative, reference, seed, chunks, drop
):
    model, video = random_model(config, seed), random_video(config, chunks=chunks, frames=2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    tokens = config.num_tokens(2, 4, 6)
    slots = torch.randint(-9, 3, (2, chunks), generator=generator)
    visible = (torch.rand(2, chunks, chunks, generator=generator) < 0.5) | torch.eye(chunks, dtype=torch.bool)
    keep = torch.rand(2, chunks, tokens, generator=generator) < 0.5 if drop else None
    given_ = video.latents, video.levels, video.prompts
    fast = model.gathered(*given_, Gather(slots=slots, visible=visible, keep=keep), frames_per_chunk=2)
    for b in range(2):
        position = model.positions(video.latents)
        mask = torch.zeros(chunks * tokens, chunks * tokens, dtype=torch.bool)
        for i in range(chunks):
            position[i * tokens : (i + 1) * tokens, 0] += (int(slots[b, i]) - i) * 2
            for j in range(chunks):
                for token in range(tokens):
                    seen = visible[b, i, j] and (keep is None or i == j or keep[b, j, token])
                    mask[i * tokens : (i + 1) * tokens, j * tokens + token] = seen
        slow = reference.forward(
            model, video.latents[b], video.levels[b], video.prompts[b],
            chunk_of_frame=[f // 2 for f in range(2 * chunks)], position=position, masks=[mask] * 3,
        )  # fmt: skip
        assert relative(fast[b], slow) < 5e-5


def test_moving_everything_in_time_changes_nothing(config, random_model, random_video, relative):
    model, video = random_model(config), random_video(config, chunks=2, frames=2)
    here = model(video.latents, video.levels, video.prompts, frames_per_chunk=2)
    there = model(video.latents, video.levels, video.prompts, frames_per_chunk=2, start=-987_654)
    assert relative(there, here) < 1e-5


@given(shift=st.integers(-(10**6), 10**6), head_dim=st.sampled_from([4, 12, 20, 64]))
@settings(max_examples=20, deadline=None)
def test_rotation_keeps_scores_when_both_sides_move(shift, head_dim):
    q, k = torch.randn(2, 5, head_dim, generator=torch.Generator().manual_seed(0)).double().unbind(0)
    position = torch.randint(-50, 50, (5, 3), generator=torch.Generator().manual_seed(1))
    moved = position + torch.tensor([shift, 3, -4])
    scores = [rotate(q, *rotation(at, head_dim)) @ rotate(k, *rotation(at, head_dim)).T for at in (position, moved)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)


def test_compiled_rotation_is_the_eager_one(monkeypatch):
    x = torch.randn(2, 7, 20)
    cos, sin = rotation(torch.randint(-9, 9, (7, 3)), 20)
    eager = rotate(x, cos, sin)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(x, cos, sin), eager)


def test_rotary_turns_views_that_complex_numbers_cannot_share():
    x = torch.randn(5, 13, generator=torch.Generator().manual_seed(0))
    cos, sin = rotation(torch.arange(15).view(5, 3), 12)
    flat = torch.randn(61, generator=torch.Generator().manual_seed(1))[1:].view(5, 12)
    for view in (x[:, 1:], x[:, :12], x[:, :12].mT.contiguous().mT, flat):
        torch.testing.assert_close(
            rotate(view, cos, sin), rotate(view.clone(memory_format=torch.contiguous_format), cos, sin)
        )


def test_model_rotate_makes_the_keys_that_attention_uses(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    kv = next(iter(model.keys_values(video.latents, video.levels, video.prompts, start=-3)))
    assert kv.key.shape == kv.value.shape == kv.query.shape == (2, 2, 12, 20)
    assert kv.position[:, 0].tolist() == [-3] * 6 + [-2] * 6
    one_by_one = [model.rotate(kv.key[:, :, i : i + 1], kv.position[i : i + 1]) for i in range(12)]
    torch.testing.assert_close(model.rotate(kv.key, kv.position), torch.cat(one_by_one, dim=2))


def test_keys_and_values_come_layer_by_layer(config, random_model, random_video, monkeypatch):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    seen = []
    for number, block in enumerate(model.blocks):
        monkeypatch.setattr(block, "finish", lambda *a, n=number, f=block.finish, **k: seen.append(n) or f(*a, **k))
    layers = model.keys_values(video.latents, video.levels, video.prompts)
    next(layers)
    assert seen == []
    next(layers)
    assert seen == [0]
    assert len(list(layers)) == 1
    assert seen == [0, 1]


@pytest.mark.parametrize("per_chunk", [True, False])
def test_embedded_text_stands_for_text(config, random_model, random_video, per_chunk):
    model, video = random_model(config), random_video(config, chunks=2, frames=2)
    text = video.prompts if per_chunk else video.prompts[:, 0]
    plain = model(video.latents, video.levels, text, frames_per_chunk=2)
    states = model(video.latents, video.levels, model.embed_text(text), frames_per_chunk=2)
    torch.testing.assert_close(states, plain)


def test_padding_text_oneself_changes_nothing(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=1, frames=2)
    padded = torch.nn.functional.pad(video.prompts[:, 0], (0, 0, 0, 2))
    torch.testing.assert_close(
        model(video.latents, video.levels, padded), model(video.latents, video.levels, video.prompts[:, 0])
    )


def test_gradient_checkpointing_changes_no_gradient(config, random_model, random_video):
    video, gradients = random_video(config, chunks=2, frames=2), []
    for checkpointing in (False, True):
        model = random_model(config)
        model.gradient_checkpointing = checkpointing
        model(video.latents, video.levels, video.prompts, frames_per_chunk=2).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_every_parameter_and_input_gets_a_gradient_through_gathered_chunks(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=2, frames=2)
    gather = Gather(slots=torch.tensor([[-1, 0]] * 2), visible=torch.ones(2, 2, 2).tril().bool())
    latents = video.latents.requires_grad_()
    model.gathered(latents, video.levels, video.prompts, gather, frames_per_chunk=2)[:, :, 2:].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert latents.grad[:, :, :2].abs().max() > 0


def test_extra_channels_and_image_tokens_steer_the_velocity(random_model, config, random_video):
    config = dataclasses.replace(config, in_channels=5, image_dim=10, image_length=4)
    model = random_model(config)
    video = random_video(dataclasses.replace(config, in_channels=3), chunks=1, frames=2)
    extra, tokens = torch.randn(2, 2, 2, 4, 6), torch.randn(2, 4, 10)
    args = video.latents, video.levels, video.prompts[:, 0]
    base = model(*args, extra=extra, image_tokens=tokens)
    assert base.shape == video.latents.shape
    assert not torch.allclose(model(*args, extra=extra + 1, image_tokens=tokens), base)
    assert not torch.allclose(model(*args, extra=extra, image_tokens=tokens + torch.randn(4, 10)), base)
    states = model.embed_text(args[2], image_tokens=tokens)
    torch.testing.assert_close(model(*args[:2], states, extra=extra), base)


def test_the_told_frame_rate_counts(config, random_model, random_video):
    video, out = random_video(config, chunks=1, frames=2), []
    for fps in (16, 24, 30):
        model = random_model(dataclasses.replace(config, fps_embedding=True, fps=fps))
        out.append(model(video.latents, video.levels, video.prompts))
    assert not torch.allclose(out[0], out[1])
    assert torch.equal(out[1], out[2])


def test_half_precision_stays_near_full_precision(config, random_model, random_video, relative):
    model, video = random_model(config), random_video(config, chunks=2, frames=2)
    with torch.no_grad():
        full = model(video.latents, video.levels, video.prompts, frames_per_chunk=2)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(video.latents, video.levels, video.prompts, frames_per_chunk=2)
        model = model.bfloat16()
        half = model(video.latents.bfloat16(), video.levels, video.prompts, frames_per_chunk=2)
    assert mixed.dtype == torch.float32
    assert half.dtype == torch.bfloat16
    assert relative(mixed, full) < 0.03
    assert relative(half.float(), full) < 0.03


def test_one_graph_holds_a_training_pass(plain_errors, config, random_model, random_video):
    """Nothing in a pass makes torch.compile give up, which would cost more than it gains."""
    model = random_model(dataclasses.replace(config, num_layers=1))
    video = random_video(config, chunks=2, frames=2)
    gather = Gather(slots=torch.tensor([[-1, 0]] * 2), visible=torch.ones(2, 2, 2).tril().bool())
    args, options = (video.latents, video.levels, video.prompts, gather), {"frames_per_chunk": 2}
    compiled = torch.compile(model.gathered, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*args, **options), model.gathered(*args, **options))


def test_a_fresh_model_gives_zero():
    model = ChunkDiT(tiny())
    velocity = model(torch.randn(1, 16, 1, 4, 4), torch.ones(1, 1), torch.randn(1, 3, 384))
    assert velocity.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 7), ("wan21-1.3b", 1419), ("wan21-14b", 14288), ("skyreels-v2-df-1.3b", 1436)]
)
def test_presets_have_the_published_sizes(name, millions):
    with torch.device("meta"):
        model = ChunkDiT(PRESETS[name]())
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


def test_tiny_has_the_documented_shape():
    config = tiny()
    assert (config.dim, config.num_layers, config.head_dim, config.text_length) == (256, 6, 64, 32)
    assert config.dim >= 3 * config.patch_dim


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 41}, "dim 41 must split into 2 heads"),
        ({"dim": 6}, "of an even size"),
        ({"num_layers": 0}, "num_layers is 0; it must be at least 1"),
        ({"patch_size": (2, 2, 2)}, "levels are per frame"),
        ({"freq_dim": 7}, "freq_dim is 7"),
        ({"image_length": 4}, "image_length needs image_dim"),
    ],
)
def test_a_config_that_does_not_fit_is_an_error(config, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(2, 4, 4, 4, 6)}, "4 channels, expected 3"),
        ({"latents": torch.zeros(2, 3, 4, 5, 6)}, r"latents are \(5, 6\) high and wide; patches are 2 by 2"),
        ({"levels": torch.zeros(2)}, r"levels are \(2,\); expected one for each video and frame, \(2, 4\)"),
        ({"text": torch.zeros(2, 7, 12)}, r"at most 6 tokens \(text_length\) of width 12 \(text_dim\)"),
        ({"text": torch.zeros(2, 3, 13)}, r"text is \(2, 3, 13\)"),
        ({"text": torch.zeros(1, 3, 12)}, "text has a batch of 1, latents of 2"),
        ({"text": torch.zeros(2, 3, 4, 12)}, "3 prompts a video, one for each chunk, need frames_per_chunk"),
        ({"text": torch.zeros(2, 2, 4, 12), "frames_per_chunk": None}, "frames_per_chunk is None"),
        ({"frames_per_chunk": 3}, "4 latent frames do not divide into chunks of 3"),
        ({"frames_per_chunk": 0}, "chunks of 0"),
        ({"image_tokens": torch.zeros(2, 4, 10)}, "image_tokens go with config.image_dim"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(plain_errors, config, random_model, change, message):
    given_ = {"latents": torch.zeros(2, 3, 4, 4, 6), "levels": torch.zeros(2, 4), "text": torch.zeros(2, 4, 12)}
    with pytest.raises(ValueError, match=message):
        random_model(config)(**given_ | {"frames_per_chunk": 2} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames_per_chunk": 4}, r"gather.slots is \(2, 2\); the latents are 2 videos of 1 chunks"),
        ({"frames_per_chunk": 3}, "4 latent frames do not divide into chunks of 3"),
        ({"keep": torch.ones(2, 2, 5, dtype=torch.bool)}, "keep has 5 tokens a chunk; the latents make 12"),
        ({"levels": torch.zeros(2)}, "expected one for each video and frame"),
        ({"text": torch.zeros(1, 3, 12)}, "text has a batch of 1, latents of 2"),
    ],
)
def test_gathered_chunks_that_do_not_fit_are_errors(plain_errors, config, random_model, change, message):
    where = {"slots": torch.zeros(2, 2, dtype=torch.long), "visible": torch.ones(2, 2, 2, dtype=torch.bool)}
    gather = Gather(**where, keep=change.get("keep"))
    change = {name: value for name, value in change.items() if name != "keep"}
    given_ = {"latents": torch.zeros(2, 3, 4, 4, 6), "levels": torch.zeros(2, 4), "text": torch.zeros(2, 4, 12)}
    with pytest.raises(ValueError, match=message):
        random_model(config).gathered(**given_ | {"gather": gather, "frames_per_chunk": 2} | change)


def test_a_gather_that_does_not_fit_itself_is_an_error(plain_errors):
    slots = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"visible is \(2, 3, 2\)"):
        Gather(slots=slots, visible=torch.ones(2, 3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"keep is \(2, 4\)"):
        Gather(slots=slots, visible=torch.ones(2, 3, 3, dtype=torch.bool), keep=torch.ones(2, 4, dtype=torch.bool))


def test_image_inputs_reach_gathered_chunks(random_model, config, random_video, relative):
    """One chunk that sees itself alone is a pass over that chunk."""
    config = dataclasses.replace(config, in_channels=5, image_dim=10)
    model = random_model(config)
    video = random_video(dataclasses.replace(config, in_channels=3), chunks=1, frames=2)
    image = {"extra": torch.randn(2, 2, 2, 4, 6), "image_tokens": torch.randn(2, 4, 10)}
    alone = Gather(slots=torch.zeros(2, 1, dtype=torch.long), visible=torch.ones(2, 1, 1, dtype=torch.bool))
    args = video.latents, video.levels, video.prompts[:, 0]
    found = model.gathered(*args, alone, frames_per_chunk=2, **image)
    assert relative(found, model(*args, **image)) < 1e-5
