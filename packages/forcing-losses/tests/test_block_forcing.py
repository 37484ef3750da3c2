import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcing_losses import (
    block_forcing_loss,
    block_forcing_objective,
    flow_matching_loss,
    velocity,
    velocity_forcing_loss,
)

SHAPE = (2, 3, 4, 2, 3)
seeds = st.integers(0, 2**32 - 1)
gammas = st.floats(0, 1)
weights = st.floats(0, 8)


def latents(seed, count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator, dtype=dtype) for _ in range(count)]


@given(seed=seeds, gamma=gammas)
def test_loss_is_eq_5_element_by_element(seed, gamma):
    pred, noise, reference = latents(seed, 3)
    errors = [
        pred[at] - (noise[at] - gamma * reference[at]) for at in itertools.product(*(range(size) for size in SHAPE))
    ]
    expected = math.fsum(error.item() ** 2 for error in errors) / len(errors)
    assert block_forcing_loss(pred, noise, reference, gamma=gamma).item() == pytest.approx(expected, rel=1e-12)


@given(seed=seeds, gamma=gammas)
def test_gradient_of_eq_5_is_the_closed_form(seed, gamma):
    pred, noise, reference = latents(seed, 3)
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(block_forcing_loss(pred, noise, reference, gamma=gamma), pred)
    torch.testing.assert_close(gradient, 2 * (pred - noise + gamma * reference) / pred.numel())


def test_eq_5_alone_is_least_at_the_velocity_towards_the_reference():
    noise, reference = latents(0, 2)
    assert block_forcing_loss(velocity(reference, noise), noise, reference, gamma=1.0).item() == 0


def test_gamma_0_asks_for_the_noise_itself():
    noise, reference = latents(0, 2)
    assert block_forcing_loss(noise, noise, reference, gamma=0.0).item() == 0


@given(seed=seeds, gamma=gammas, weight=weights)
def test_objective_is_fidelity_plus_weighted_eq_5(seed, gamma, weight):
    pred, clean, noise, reference = latents(seed, 4)
    fidelity = (pred - (noise - clean)).square().mean()
    semantic = (pred - (noise - gamma * reference)).square().mean()
    objective = block_forcing_objective(pred, clean, noise, reference, gamma=gamma, weight=weight)
    torch.testing.assert_close(objective, fidelity + weight * semantic)


@given(seed=seeds, gamma=gammas, weight=weights)
def test_objective_is_flow_matching_towards_the_blend_up_to_a_constant(seed, gamma, weight):
    pred, clean, noise, reference = latents(seed, 4)
    pred.requires_grad_()
    blend = (clean + weight * gamma * reference) / (1 + weight)
    objective = block_forcing_objective(pred, clean, noise, reference, gamma=gamma, weight=weight)
    matching = (1 + weight) * flow_matching_loss(pred, blend, noise)
    (gradient,) = torch.autograd.grad(objective, pred)
    (expected,) = torch.autograd.grad(matching, pred)
    torch.testing.assert_close(gradient, expected)
    constant = weight / (1 + weight) * (clean - gamma * reference).square().mean()
    torch.testing.assert_close(objective, matching + constant)


@given(seed=seeds, gamma=gammas)
def test_without_a_past_or_a_weight_the_objective_is_flow_matching(seed, gamma):
    pred, clean, noise, reference = latents(seed, 4)
    plain = flow_matching_loss(pred, clean, noise)
    assert torch.equal(block_forcing_objective(pred, clean, noise, None, gamma=gamma, weight=3.0), plain)
    assert torch.equal(block_forcing_objective(pred, clean, noise, reference, gamma=gamma, weight=0.0), plain)


@given(seed=seeds, gamma=gammas)
def test_velocity_forcing_is_eq_5_and_with_fidelity_the_objective(seed, gamma):
    """The row of Table 6: Eq. 5 without Self Forcing."""
    pred, clean, noise, reference = latents(seed, 4)
    loss = velocity_forcing_loss(pred, noise, reference, gamma=gamma)
    assert loss.item() == pytest.approx((pred - (noise - gamma * reference)).square().mean().item(), rel=1e-12)
    row = flow_matching_loss(pred, clean, noise) + 0.7 * loss
    torch.testing.assert_close(row, block_forcing_objective(pred, clean, noise, reference, gamma=gamma, weight=0.7))


def test_half_precision_is_summed_in_float32():
    half = latents(1, 4, dtype=torch.bfloat16)
    loss = block_forcing_objective(*half, gamma=0.3, weight=0.5)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, block_forcing_objective(*(x.float() for x in half), gamma=0.3, weight=0.5))


@pytest.mark.parametrize("gamma", [-0.1, 1.1, math.nan])
def test_gamma_outside_the_papers_interval_is_named(gamma):
    pred, noise, reference = latents(0, 3)
    with pytest.raises(ValueError, match=rf"gamma is {gamma}; Eq. 5 expects a weight in \[0, 1\]"):
        block_forcing_loss(pred, noise, reference, gamma=gamma)


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_a_negative_weight_is_named(weight):
    with pytest.raises(ValueError, match=f"weight is {weight}"):
        block_forcing_objective(*latents(0, 4), gamma=1.0, weight=weight)


@pytest.mark.usefixtures("unhooked")
def test_a_reference_of_another_length_is_named():
    pred, noise, reference = latents(0, 3)
    with pytest.raises(ValueError, match="noise and reference have shapes"):
        block_forcing_loss(pred, noise, reference[:, :, :1], gamma=1.0)
