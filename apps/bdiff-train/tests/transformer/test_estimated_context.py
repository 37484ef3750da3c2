"""Estimated context is what the model itself makes of a chunk, under the true chunks before it."""

from dataclasses import replace

import pytest
import torch

from bdiff_core import ChunkDiT, ModelConfig
from bdiff_train.data import StorySet
from bdiff_train.engine import step_generator
from bdiff_train.transformer import BatchConfig, make_batch
from bdiff_train.transformer.estimated_context import with_estimated_context
from forcing_losses import interpolate
from kvbank import SemanticSparse
from noisesched import chunk_levels

CHUNKS, FRAMES, CONTEXT = 9, 2, 4
CONFIG = ModelConfig(
    in_channels=2, out_channels=2, dim=12, num_heads=2, ffn_dim=16, num_layers=2, text_dim=6, text_length=4, freq_dim=8
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = ChunkDiT(CONFIG)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture(scope="module")
def made():
    return gathered(SemanticSparse())


def gathered(policy, *, places=None):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, CHUNKS * FRAMES, 2, 4, 4, generator=generator)
    if places is not None:
        scenes = torch.randn(max(places) + 1, 2, 4, 4, generator=generator)
        # some of a picture changes from frame to frame, as where somebody walks
        latents[..., 1:, :] = scenes[torch.tensor(places).repeat_interleave(FRAMES)][..., 1:, :]
    stories = StorySet(
        latents=latents.half(),
        caption=torch.arange(CHUNKS).remainder(3).expand(3, -1),
        tokens=torch.randn(3, 4, 6, generator=generator).half(),
        embedding=torch.eye(3),
    )
    samples = 12 if places is None else 24
    config = BatchConfig(stories=samples, copies=2, text_dropout=0.0, token_drop=0.3, context_noise=0.0)
    return make_batch(
        stories,
        chunk_levels(CHUNKS, level_min=0.5, level_max=0.83),
        policy,
        config=config,
        tokens_per_chunk=8,
        generator=step_generator(1, 0),
    )


def estimated(model, batch, share, *, passes=1, tint=0.0, seed=2):
    return with_estimated_context(
        model,
        batch,
        share=share,
        frames_per_chunk=FRAMES,
        generator=step_generator(seed, 0),
        passes=passes,
        tint=tint,
    )


def reference(model, batch, *, generator):
    """Every context chunk of every sample by a pass of its own: the chunks before it, then itself with noise."""
    length = CONTEXT * FRAMES
    clean = batch.latents[:, :, :length]
    levels = 0.5 + 0.43 * torch.rand(len(clean), CONTEXT, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    out = clean.clone()
    for row in range(len(clean)):
        absent = CONTEXT - int((batch.gather.slots[row, :CONTEXT] < 0).sum())
        for chunk in range(absent, CONTEXT):
            own = slice(chunk * FRAMES, (chunk + 1) * FRAMES)
            level = levels[row, chunk].expand(1, FRAMES)
            noisy = interpolate(clean[row : row + 1, :, own], noise[row : row + 1, :, own], level)
            latents = torch.cat([clean[row : row + 1, :, absent * FRAMES : chunk * FRAMES], noisy], dim=2)
            shown = torch.cat([torch.zeros(1, (chunk - absent) * FRAMES), level], dim=1)
            text = batch.text[row : row + 1, absent : chunk + 1]
            velocity = model(latents, shown, text, frames_per_chunk=FRAMES)[:, :, -FRAMES:]
            out[row, :, own] = (noisy - levels[row, chunk] * velocity)[0]
    return out


def test_every_estimate_is_a_pass_over_the_true_past_and_the_noisy_chunk(model, made):
    got = estimated(model, made, 1.0)
    generator = step_generator(2, 0)
    torch.rand(len(made.latents), generator=generator)  # which samples
    with torch.no_grad():
        expected = reference(model, made, generator=generator)
    present = (made.gather.slots[:, :CONTEXT] < 0).repeat_interleave(FRAMES, 1)[:, None, :, None, None]
    difference = (got.latents[:, :, : CONTEXT * FRAMES] - expected) * present
    assert present.sum() > 20
    assert (expected - made.latents[:, :, : CONTEXT * FRAMES]).abs().mean() > 0.1
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("seed", range(2, 8))
def test_further_passes_estimate_the_estimates(model, made, seed):
    generator = step_generator(seed, 0)
    torch.rand(len(made.latents), generator=generator)
    number = int(torch.randint(1, 4, (), generator=generator))
    expected = made
    for _ in range(number):
        with torch.no_grad():
            context = reference(model, expected, generator=generator)
        expected = replace(expected, latents=torch.cat([context, made.latents[:, :, CONTEXT * FRAMES :]], dim=2))
    got = estimated(model, made, 1.0, passes=3, seed=seed)
    present = (made.gather.slots[:, :CONTEXT] < 0).repeat_interleave(FRAMES, 1)[:, None, :, None, None]
    difference = (got.latents - expected.latents)[:, :, : CONTEXT * FRAMES] * present
    assert difference.abs().max() < 1e-3
    assert torch.equal(got.latents[:, :, CONTEXT * FRAMES :], made.latents[:, :, CONTEXT * FRAMES :])


def test_targets_and_what_is_learned_stay_as_they_were(model, made):
    got = estimated(model, made, 1.0)
    assert torch.equal(got.latents[:, :, CONTEXT * FRAMES :], made.latents[:, :, CONTEXT * FRAMES :])
    assert got.clean is made.clean
    assert got.gather is made.gather
    assert not got.latents.requires_grad


def test_a_sink_is_seen_as_it_is_when_all_else_is_estimated(model):
    batch = gathered(SemanticSparse(top_l=1, num_sink=1))
    place = (batch.gather.slots[:, :CONTEXT] < 0).long().argmax(1)  # the oldest chunk that is there
    late = torch.tensor([target > 2 for target in batch.targets])  # nearer to the start it is a recent one
    expected = torch.zeros(len(late), CONTEXT, dtype=torch.bool)
    expected[late, place[late]] = True
    assert 2 < late.sum() < len(late)
    assert torch.equal(batch.sink, expected)
    got = estimated(model, batch, 1.0, passes=3)
    stays = batch.sink.repeat_interleave(FRAMES, 1)[:, None, :, None, None]
    context = slice(0, CONTEXT * FRAMES)
    same = got.latents[:, :, context] == batch.latents[:, :, context]
    assert same[stays.expand_as(same)].all()
    assert not same[~stays.expand_as(same)].any()


def test_the_share_says_how_many_samples_are_changed(model, made):
    assert estimated(model, made, 0.0) is made
    changed = (estimated(model, made, 0.5).latents != made.latents).flatten(1).any(1)
    assert 2 <= int(changed.sum()) <= 10


PLACES = (0, 1, 0, 2, 2, 1, 0, 1, 2)


@pytest.fixture(scope="module")
def among_places():
    return gathered(SemanticSparse(top_l=1, num_sink=1), places=PLACES)


def test_the_anchor_is_the_oldest_chunk_in_view_of_the_place(among_places):
    policy, found = SemanticSparse(top_l=1, num_sink=1), 0
    similarity = torch.arange(CHUNKS).remainder(3)
    for row, target in enumerate(among_places.targets):
        seen = policy.select(target, [float(similarity[c] == similarity[target]) for c in range(target)])
        same = [PLACES[chunk] == PLACES[target] for chunk in seen]
        expected = [False] * (CONTEXT - len(seen)) + [is_same and not any(same[:i]) for i, is_same in enumerate(same)]
        assert among_places.anchor[row].tolist() == expected
        found += any(same)
    assert 3 < found < len(among_places.targets)


def test_a_tint_is_a_false_colour_of_each_chunk_but_the_anchor_has_the_true_ones(model, among_places):
    plain, tinted = (estimated(model, among_places, 1.0, passes=2, tint=tint) for tint in (0.0, 0.5))
    context = slice(0, CONTEXT * FRAMES)
    true, before, after = (b.latents[:, :, context].unflatten(2, (CONTEXT, -1)) for b in (among_places, plain, tinted))
    sink, anchor = (places[:, None, :, None, None, None] for places in (among_places.sink, among_places.anchor))
    assert (anchor & ~sink).any()
    assert (anchor & sink).any()
    assert torch.where(sink, after - true, 0).abs().max() == 0
    assert torch.where(anchor, after - true, 0).abs().max() < 1e-5
    assert torch.where(anchor & ~sink, before - true, 0).abs().max() > 0.1
    false = torch.where(anchor | sink, 0, after - before)
    corners = false[..., :1, [0, 0, -1, -1], [0, -1, 0, -1]].unflatten(-1, (2, 2))
    place = torch.linspace(0, 1, 4)
    across = torch.stack([1 - place, place])
    torch.testing.assert_close(false, (across.T @ corners @ across).expand_as(false))
    spread = corners.square().mean((1, 3, 4, 5)).sqrt()[~(among_places.anchor | among_places.sink)]
    assert spread.min() > 0
    assert 0.1 < spread.mean() < 0.4
    assert torch.equal(tinted.latents[:, :, CONTEXT * FRAMES :], among_places.latents[:, :, CONTEXT * FRAMES :])


def test_fine_detail_of_an_anchor_is_as_soft_as_that_of_other_estimates(model):
    batch = gathered(SemanticSparse(top_l=1), places=PLACES)
    wide = replace(batch, latents=batch.latents.repeat_interleave(4, 3).repeat_interleave(4, 4))
    wide.latents.add_(torch.randn(wide.latents.shape, generator=step_generator(5, 0)))
    plain, tinted = (estimated(model, wide, 1.0, tint=tint) for tint in (0.0, 0.5))
    anchor = batch.anchor.repeat_interleave(FRAMES, 1)
    lost = [(made.latents - wide.latents)[:, :, : CONTEXT * FRAMES].transpose(1, 2)[anchor] for made in (plain, tinted)]
    coarse = [torch.nn.functional.avg_pool2d(x, 8).square().mean() for x in lost]
    fine = [(x - x.mean((2, 3), keepdim=True)).diff().square().mean() for x in lost]
    assert coarse[1] < 0.2 * coarse[0]
    assert fine[1].item() == pytest.approx(fine[0].item(), rel=0.2)
