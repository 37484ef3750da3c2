import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcing_losses import distribution_matching_loss, interpolate, score_identity_loss

SHAPE = (2, 2, 3, 1, 2)
seeds = st.integers(0, 2**32 - 1)


def material(seed, dtype=torch.float64):
    """Generated latents, velocities of teacher and critic, noise; and levels."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(SHAPE, generator=generator, dtype=dtype) for _ in range(4)]
    return *tensors, torch.rand(SHAPE[0], SHAPE[2], generator=generator, dtype=dtype)


def linear_model(slope, shift):
    """A velocity model that depends on both of its arguments."""

    def model(noisy, level):
        return slope * noisy + shift * level[:, None, :, None, None]

    return model


@given(seed=seeds, normalize=st.booleans())
def test_dmd_gradient_is_the_formula(slow, seed, normalize):
    x, teacher, critic, noise, level = material(seed)
    x.requires_grad_()
    loss = distribution_matching_loss(x, teacher, critic, noise=noise, level=level, normalize=normalize)
    (gradient,) = torch.autograd.grad(loss, x)
    for at, expected in slow.dmd_gradient(x, teacher, critic, noise, level, normalize).items():
        assert gradient[at].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert loss.item() == pytest.approx(0.5 * gradient.square().sum().item() * x.numel())


@given(seed=seeds)
def test_dmd_weights_multiply_the_gradient_of_their_frames(seed):
    x, teacher, critic, noise, level = material(seed)
    x.requires_grad_()
    weight = torch.rand(SHAPE[0], SHAPE[2], dtype=torch.float64)
    losses = (
        distribution_matching_loss(x, teacher, critic, noise=noise, level=level, weight=w) for w in (weight, None)
    )
    weighted, plain = (torch.autograd.grad(loss, x)[0] for loss in losses)
    torch.testing.assert_close(weighted, weight[:, None, :, None, None] * plain)


@pytest.mark.parametrize("loss", [distribution_matching_loss, score_identity_loss])
def test_models_are_asked_at_the_noisy_latents(loss):
    x, _, _, noise, level = material(0)
    teacher, critic = linear_model(0.3, 1.0), linear_model(-0.2, 0.5)
    noisy = interpolate(x, noise, level)
    by_model = loss(x, teacher, critic, noise=noise, level=level)
    by_tensor = loss(x, teacher(noisy, level), critic(noisy, level), noise=noise, level=level)
    assert torch.equal(by_model, by_tensor)


@pytest.mark.parametrize("loss", [distribution_matching_loss, score_identity_loss])
def test_models_get_one_level_for_each_frame(loss):
    x, _, _, noise, _ = material(0)
    shapes = set()

    def model(noisy, level):
        shapes.add((noisy.shape, level.shape))
        return noisy

    loss(x, model, model, noise=noise, level=torch.full((1, 1), 0.5))
    assert shapes == {(SHAPE, (2, 3))}


def test_dmd_differentiates_neither_model():
    x, _, _, noise, level = material(1)
    slope = torch.ones((), dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    loss = distribution_matching_loss(
        x, lambda noisy, _: slope * noisy, linear_model(0.1, 0.2), noise=noise, level=level
    )
    loss.backward()
    assert slope.grad is None
    assert x.grad is not None


@given(seed=seeds, normalize=st.booleans(), alpha=st.floats(0, 1.5))
def test_sid_is_the_formula(slow, seed, normalize, alpha):
    x, teacher, critic, noise, level = material(seed)
    loss = score_identity_loss(x, teacher, critic, noise=noise, level=level, alpha=alpha, normalize=normalize)
    expected = slow.sid_loss(x, teacher, critic, noise, level, alpha, normalize)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_sid_gradient_goes_through_both_models():
    """For v = s x_t both estimates are (1 - t s) x_t, and d x_t / d x = 1 - t: a quadratic in x."""
    x, _, _, noise, level = material(2)
    x.requires_grad_()
    alpha, s_teacher, s_critic = 1.2, 0.4, -0.7
    loss = score_identity_loss(
        x,
        linear_model(s_teacher, 0.0),
        linear_model(s_critic, 0.0),
        noise=noise,
        level=level,
        alpha=alpha,
        normalize=False,
    )
    (gradient,) = torch.autograd.grad(loss, x)
    t = level[:, None, :, None, None]
    noisy = ((1 - t) * x + t * noise).detach()
    teacher, gap = (1 - t * s_teacher) * noisy, t * (s_critic - s_teacher) * noisy
    d_noisy = 1 - t
    d_teacher, d_gap = (1 - t * s_teacher) * d_noisy, t * (s_critic - s_teacher) * d_noisy
    expected = d_gap * (teacher - x.detach()) + gap * (d_teacher - 1) - 2 * alpha * gap * d_gap
    torch.testing.assert_close(gradient, expected / x.numel())


def test_sid_normaliser_is_not_differentiated():
    x, _, _, noise, level = material(3)
    x = x[:1].requires_grad_()  # one video, one divisor
    arguments = {"noise": noise[:1], "level": level[:1]}
    models = linear_model(0.4, 0.3), linear_model(-0.7, 0.1)
    divided = score_identity_loss(x, *models, **arguments)
    plain = score_identity_loss(x, *models, **arguments, normalize=False)
    ratio = (plain / divided).detach()
    gradients = (torch.autograd.grad(loss, x)[0] for loss in (divided, plain))
    torch.testing.assert_close(next(gradients) * ratio, next(gradients))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("loss", [distribution_matching_loss, score_identity_loss])
def test_a_critic_that_agrees_with_the_teacher_leaves_no_gradient(loss, normalize):
    x, _, _, noise, level = material(4)
    x.requires_grad_()
    model = linear_model(0.4, 0.3)
    value = loss(x, model, model, noise=noise, level=level, normalize=normalize)
    (gradient,) = torch.autograd.grad(value, x)
    assert value.item() == 0
    assert gradient.abs().max() < 1e-15  # SiD subtracts equal terms


@pytest.mark.parametrize("loss", [distribution_matching_loss, score_identity_loss])
def test_a_sample_that_the_teacher_confirms_exactly_stays_finite(loss):
    x, _, _, noise, level = material(5)
    x.requires_grad_()
    value = loss(x, lambda *_: (noise - x).detach().requires_grad_(), lambda *_: noise * 1, noise=noise, level=level)
    assert value.isfinite()
    assert torch.autograd.grad(value, x)[0].isfinite().all()


@pytest.mark.parametrize("loss", [distribution_matching_loss, score_identity_loss])
def test_half_precision_is_compared_in_float32(loss):
    x, teacher, critic, noise, level = (tensor.bfloat16() for tensor in material(6))
    assert loss(x, teacher, critic, noise=noise, level=level.float()).dtype == torch.float32


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("loss", [distribution_matching_loss, score_identity_loss])
def test_predictions_of_a_wrong_shape_are_named(loss):
    x, teacher, critic, noise, level = material(7)
    with pytest.raises(ValueError, match="the velocity of the critic and generated have shapes"):
        loss(x, teacher, critic[:1], noise=noise, level=level)
    with pytest.raises(ValueError, match=r"level has shape .*; expected \[batch, frames\] = \[2, 3\]"):
        loss(x, teacher, critic, noise=noise, level=torch.ones(3, 2))


def test_sid_refuses_a_prediction_that_it_cannot_differentiate():
    x, teacher, critic, noise, level = material(8)
    with pytest.raises(ValueError, match="teacher is a tensor without a graph"):
        score_identity_loss(x.requires_grad_(), teacher, critic, noise=noise, level=level)
    with torch.no_grad():
        score_identity_loss(x, teacher, critic, noise=noise, level=level)
