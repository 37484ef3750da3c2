import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcing_losses import flow_matching_loss, interpolate, velocity

SHAPE = (2, 3, 4, 2, 5)
seeds = st.integers(0, 2**32 - 1)


def latents(seed, count, shape=SHAPE, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]


def frame_values(seed, dtype=torch.float64):
    return torch.rand(SHAPE[0], SHAPE[2], generator=torch.Generator().manual_seed(seed), dtype=dtype)


def elements(shape):
    return itertools.product(*map(range, shape))


@given(seed=seeds)
def test_interpolate_is_eq_2_element_by_element(seed):
    clean, noise = latents(seed, 2)
    level = frame_values(seed)
    noisy = interpolate(clean, noise, level)
    for b, c, t, h, w in elements(SHAPE):
        expected = (1 - level[b, t]) * clean[b, c, t, h, w] + level[b, t] * noise[b, c, t, h, w]
        assert noisy[b, c, t, h, w].item() == pytest.approx(expected.item(), abs=1e-12)


def test_level_0_is_clean_and_level_1_is_noise():
    clean, noise = latents(0, 2)
    level = torch.zeros(2, 4, dtype=torch.float64)
    level[:, 2:] = 1
    noisy = interpolate(clean, noise, level)
    assert torch.equal(noisy[:, :, :2], clean[:, :, :2])
    assert torch.equal(noisy[:, :, 2:], noise[:, :, 2:])


@given(seed=seeds)
def test_velocity_is_the_slope_of_the_path(seed):
    clean, noise = latents(seed, 2)
    early, late = (torch.full((2, 4), level, dtype=torch.float64) for level in (0.25, 0.75))
    slope = (interpolate(clean, noise, late) - interpolate(clean, noise, early)) / 0.5
    torch.testing.assert_close(velocity(clean, noise), slope)
    torch.testing.assert_close(velocity(clean, noise), noise - clean)


@given(seed=seeds)
def test_one_step_along_the_velocity_restores_the_clean_latents(seed):
    clean, noise = latents(seed, 2)
    level = frame_values(seed)
    noisy = interpolate(clean, noise, level)
    torch.testing.assert_close(noisy - level[:, None, :, None, None] * velocity(clean, noise), clean)


@given(seed=seeds, weighted=st.booleans())
def test_loss_is_the_mean_of_weighted_squared_errors(seed, weighted):
    pred, clean, noise = latents(seed, 3)
    weight = frame_values(seed) if weighted else None
    total = 0.0
    for b, c, t, h, w in elements(SHAPE):
        error = pred[b, c, t, h, w] - (noise[b, c, t, h, w] - clean[b, c, t, h, w])
        total += (weight[b, t].item() if weighted else 1.0) * error.item() ** 2
    expected = total / pred.numel()
    assert flow_matching_loss(pred, clean, noise, weight=weight).item() == pytest.approx(expected, rel=1e-12)


@given(seed=seeds)
def test_gradient_is_the_closed_form(seed):
    pred, clean, noise = latents(seed, 3)
    weight = frame_values(seed)
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(flow_matching_loss(pred, clean, noise, weight=weight), pred)
    expected = 2 * weight[:, None, :, None, None] * (pred - (noise - clean)) / pred.numel()
    torch.testing.assert_close(gradient, expected)


def test_gradient_of_a_linear_model_is_the_normal_equation():
    clean, noise = latents(5, 2)
    level = frame_values(5)
    noisy = interpolate(clean, noise, level)
    matrix = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    pred = torch.einsum("oc,bcthw->bothw", matrix, noisy)
    (gradient,) = torch.autograd.grad(flow_matching_loss(pred, clean, noise), matrix)
    residual = (pred - (noise - clean)).detach()
    expected = 2 * torch.einsum("bothw,bcthw->oc", residual, noisy) / noisy.numel()
    torch.testing.assert_close(gradient, expected)


def test_loss_of_the_true_velocity_is_zero():
    clean, noise = latents(1, 2)
    assert flow_matching_loss(velocity(clean, noise), clean, noise).item() == 0


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (1, 1)])
def test_weights_and_levels_broadcast_over_videos_and_frames(shape):
    pred, clean, noise = latents(2, 3)
    values = frame_values(2)[: shape[0], : shape[1]]
    full = values.expand(2, 4)
    one, other = (flow_matching_loss(pred, clean, noise, weight=weight) for weight in (values, full))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(interpolate(clean, noise, values), interpolate(clean, noise, full))


def test_half_precision_is_mixed_and_summed_in_float32():
    pred, clean, noise = latents(3, 3, dtype=torch.bfloat16)
    level = frame_values(3, torch.float32)
    noisy = interpolate(clean, noise, level)
    assert noisy.dtype == torch.bfloat16
    assert torch.equal(noisy, interpolate(clean.float(), noise.float(), level).bfloat16())
    loss = flow_matching_loss(pred, clean, noise)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, flow_matching_loss(pred.float(), clean.float(), noise.float()))


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("shape", [(2,), (4, 2), (3, 4), ()])
def test_levels_and_weights_of_a_wrong_shape_are_named(shape):
    pred, clean, noise = latents(4, 3)
    with pytest.raises(ValueError, match=r"level has shape .*; expected \[batch, frames\] = \[2, 4\]"):
        interpolate(clean, noise, torch.ones(shape))
    with pytest.raises(ValueError, match=r"weight has shape .*; expected \[batch, frames\] = \[2, 4\]"):
        flow_matching_loss(pred, clean, noise, weight=torch.ones(shape))


@pytest.mark.usefixtures("unhooked")
def test_latents_do_not_broadcast_silently():
    pred, clean, noise = latents(4, 3)
    with pytest.raises(ValueError, match="clean and noise have shapes"):
        interpolate(clean[:1], noise, frame_values(0))
    with pytest.raises(ValueError, match="clean and noise have shapes"):
        velocity(clean, noise[:, :, :1])
    with pytest.raises(ValueError, match="pred and its target have shapes"):
        flow_matching_loss(pred[:, :, :1], clean, noise)


@given(seed=seeds)
def test_a_weight_may_differ_from_latent_to_latent(seed):
    pred, clean, noise, weight = latents(seed, 4)
    weight = weight[:, :1].abs()
    total = sum(
        weight[b, 0, t, h, w].item() * (pred - (noise - clean))[b, c, t, h, w].item() ** 2
        for b, c, t, h, w in elements(SHAPE)
    )
    expected = total / pred.numel()
    assert flow_matching_loss(pred, clean, noise, weight=weight).item() == pytest.approx(expected, rel=1e-12)
