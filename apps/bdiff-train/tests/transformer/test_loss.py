"""The loss on real videos weighs motion, and Block Forcing is the paper's two-part objective."""

import pytest
import torch

from bdiff_train.engine import step_generator
from bdiff_train.transformer import BatchConfig, BlockForcingConfig, make_batch
from bdiff_train.transformer.loss import copies_velocity, fidelity_loss, motion_weight
from forcing_losses import block_forcing_objective, semantic_reference

CHUNKS, FRAMES, TOKENS = 5, 2, 8


def test_what_moves_within_a_chunk_weighs_more():
    still = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 2 * FRAMES, 1, 1)
    still[:, :, FRAMES:] += 1  # the second chunk shows another picture, which is no motion
    assert torch.allclose(motion_weight(still, frames_per_chunk=FRAMES, strength=5.0), torch.ones(()))
    moving = still.clone()
    moving[:, :, 1, 2, 3] += 100.0
    weight = motion_weight(moving, frames_per_chunk=FRAMES, strength=5.0)
    assert weight.shape == (2, 1, 2 * FRAMES, 8, 8)
    assert weight.mean().item() == pytest.approx(1.0)
    assert (weight[:, 0, 1, 2, 3] / weight[:, 0, 0, 0, 0]).tolist() == pytest.approx([6.0, 6.0], rel=1e-3)


def test_block_forcing_is_the_two_part_objective_of_each_target_that_has_a_past(make_data, small_model):
    data, model = make_data(), small_model()
    made = make_batch(
        data.stories,
        data.levels,
        data.policy,
        config=BatchConfig(stories=16, copies=2),
        tokens_per_chunk=TOKENS,
        generator=step_generator(0, 0),
        reference_chunks=2,
    )
    assert 0 < made.targets.count(0) < 16
    forcing = BlockForcingConfig(weight=0.3, gamma=0.7, top_l=2)
    velocity = copies_velocity(model, made, frames_per_chunk=FRAMES)
    loss, figures = fidelity_loss(velocity, made, frames_per_chunk=FRAMES, block_forcing=forcing)
    expected = []
    for row, (story, target) in enumerate(zip(made.stories, made.targets, strict=True)):
        chunks = data.stories.latents[story].unflatten(0, (CHUNKS, FRAMES)).transpose(1, 2)
        similarity = [float((c - target) % 2 == 0) for c in range(target)]
        reference = None
        if target:
            reference = semantic_reference(chunks[:target], torch.tensor(similarity), top_l=2, num_frames=FRAMES)
            reference = torch.cat([reference[None]] * 2, dim=2)
        one = slice(row, row + 1)
        expected.append(
            block_forcing_objective(velocity[one], made.clean[one], made.noise[one], reference, gamma=0.7, weight=0.3)
        )
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert figures["flow_matching"] + 0.3 * figures["block_forcing"] == pytest.approx(loss.item(), rel=1e-5)
