"""Batches show a target what its memory would show it."""

import hashlib

import pytest
import torch

from bdiff_train.data import StorySet
from bdiff_train.engine import step_generator
from bdiff_train.transformer import BatchConfig, make_batch
from kvbank import Rolling, SemanticSparse, Sink
from noisesched import chunk_levels

CHUNKS, FRAMES, TOKENS = 9, 5, 80


@pytest.fixture(scope="module")
def stories():
    """Latents that name their story and chunk; captions of three meanings in turn."""
    generator = torch.Generator().manual_seed(0)
    number = torch.arange(2 * CHUNKS).view(2, CHUNKS).repeat_interleave(FRAMES, 1).half()
    return StorySet(
        latents=number[:, :, None, None, None].expand(-1, -1, 2, 8, 8).contiguous(),
        caption=torch.arange(CHUNKS).remainder(3).expand(2, -1),
        tokens=torch.randn(3, 4, 6, generator=generator).half(),
        embedding=torch.eye(3),
    )


QUIET = {"text_dropout": 0.0, "token_drop": 0.0, "context_noise": 0.0}


def batch(world, policy=None, *, step=0, plain=QUIET, **options):
    plain = {**plain, "stories": 6, "copies": 3}
    return make_batch(
        world,
        chunk_levels(CHUNKS),
        policy or SemanticSparse(),
        config=BatchConfig(**(plain | options)),
        tokens_per_chunk=TOKENS,
        generator=step_generator(1, step),
    )


def test_a_sample_shows_the_chunks_that_the_policy_selects(stories):
    made = batch(stories, stories=24)
    policy = SemanticSparse()
    for row in range(24):
        target = int(made.clean[row, 0, 0, 0, 0]) % CHUNKS
        similarity = [1.0 if (c - target) % 3 == 0 else 0.0 for c in range(target)]
        seen = list(policy.select(target, similarity))
        context = made.latents[row, 0, : 4 * FRAMES : FRAMES, 0, 0].remainder(CHUNKS).int().tolist()
        absent = 4 - len(seen)
        assert context[absent:] == seen
        assert made.gather.slots[row].tolist() == [0] * absent + list(range(-len(seen), 0)) + [0] * 3
        captions = [*[c % 3 for c in seen], *[target % 3] * 3]
        assert torch.equal(made.text[row, absent:], stories.tokens[captions].float())


def test_clean_chunks_see_the_past_and_copies_see_no_other_copy(stories):
    made = batch(stories, stories=24)
    for row in range(24):
        absent = 4 - int((made.gather.slots[row, :4] < 0).sum())
        visible = made.gather.visible[row]
        for i in range(7):
            for j in range(7):
                past = absent <= j < min(i, 4)
                assert bool(visible[i, j]) == (i == j or past)


def test_copies_are_noisy_at_their_level_and_context_is_clean(stories):
    made = batch(stories)
    levels = made.levels.unflatten(1, (7, FRAMES))
    assert (levels[:, :4] == 0).all()
    assert (levels[:, 4:] > 0).all()
    assert torch.equal(levels[:, 4:].amax(2), levels[:, 4:].amin(2))
    noisy = made.latents[:, :, 4 * FRAMES :]
    level = made.levels[:, None, 4 * FRAMES :, None, None]
    torch.testing.assert_close(noisy, (1 - level) * made.clean + level * made.noise)
    assert made.noise.std() == pytest.approx(1.0, abs=0.05)


def test_later_chunks_are_trained_at_higher_levels(stories):
    made = [batch(stories, stories=64, copies=8, step=k) for k in range(3)]
    targets = torch.cat([m.clean[:, 0, 0, 0, 0] for m in made]).remainder(CHUNKS)
    levels = torch.cat([m.levels.unflatten(1, (12, FRAMES))[:, 4:, 0] for m in made])
    expected = chunk_levels(CHUNKS).float()
    for chunk in (0, CHUNKS - 1):
        assert levels[targets == chunk].median() == pytest.approx(expected[chunk].item(), abs=0.08)


def test_text_is_dropped_for_a_whole_sample(stories):
    made = batch(stories, stories=64, text_dropout=0.5)
    silent = (made.text == 0).flatten(2).all(2)
    assert (silent.all(1) | ~silent.any(1)).all()
    assert 16 < int(silent.all(1).sum()) < 48


def test_a_batch_is_a_function_of_seed_and_step(stories):
    one, again, other = batch(stories), batch(stories), batch(stories, step=1)
    assert torch.equal(one.latents, again.latents)
    assert not torch.equal(one.latents, other.latents)


@pytest.mark.parametrize(
    ("policy", "digest"),
    [(SemanticSparse(), "5fc71cbe7cfba504"), (Rolling(4), "6ae8ecb20730faa1"), (Sink(2, 2), "c7e0b97e10e0d50b")],
)
def test_a_batch_of_one_policy_is_the_same_as_before(stories, policy, digest):
    """Hashes of what 0.1 drew. Numbers are rounded: processors differ in the last bit of a logarithm."""
    made = batch(stories, policy, plain={})
    rounded = [part.mul(16).round().short() for part in (made.latents, made.levels, made.text, made.noise)]
    chosen = [torch.tensor(made.stories), torch.tensor(made.targets)]
    parts = [*rounded, made.gather.slots, made.gather.visible, made.gather.keep, *chosen]
    assert hashlib.sha256(b"".join(part.contiguous().numpy().tobytes() for part in parts)).hexdigest()[:16] == digest


def test_a_mixture_of_one_policy_is_that_policy(stories):
    one, mixture = batch(stories, Rolling(3), plain={}), batch(stories, (Rolling(3),), plain={})
    for name in ("latents", "levels", "text", "clean", "noise", "sink", "anchor"):
        assert torch.equal(getattr(one, name), getattr(mixture, name)), name
    assert torch.equal(one.gather.keep, mixture.gather.keep)


def test_samples_draw_each_policy_of_a_mixture_equally_often(stories):
    mixture, counts = (Sink(0, 0), Rolling(1), Rolling(2), Sink(1, 2)), torch.zeros(4)
    for step in range(8):
        made = batch(stories, mixture, step=step, stories=64, early_share=0.0)
        late = torch.tensor(made.targets) >= 3
        shown = (made.gather.slots[:, :4] < 0).sum(1)
        counts += shown[late].bincount(minlength=4)
        assert torch.equal(made.sink.any(1) & late, (shown == 3) & late)
    assert counts.sum() > 300
    assert (counts / counts.sum() - 0.25).abs().max() < 0.06


def test_a_policy_that_shows_nothing_hides_the_whole_context(stories):
    made = batch(stories, Sink(0, 0))
    assert not made.gather.visible[:, 4:, :4].any()
    assert not made.gather.slots.any()


def test_a_policy_that_shows_too_much_is_refused(stories):
    with pytest.raises(ValueError, match=r"shows \d chunks; BatchConfig.context is 4"):
        batch(stories, Rolling(8), stories=24)


def test_a_reference_changes_no_draw(make_data):
    data = make_data()
    options = {"config": BatchConfig(stories=3), "tokens_per_chunk": data.tokens_per_chunk}
    plain, with_reference = (
        make_batch(
            data.stories, data.levels, data.policy, generator=step_generator(0, 1), reference_chunks=count, **options
        )
        for count in (0, 2)
    )
    assert plain.reference is None
    assert torch.equal(plain.latents, with_reference.latents)
