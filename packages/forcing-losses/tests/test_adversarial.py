import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcing_losses import discriminator_loss, generator_loss, gradient_penalty

FORMS = ["plain", "non_saturating", "relativistic"]
forms = st.sampled_from(FORMS)
logits = st.lists(st.tuples(*(st.floats(-12, 12),) * 2), min_size=1, max_size=8)


def leaves(pairs):
    return [torch.tensor(column, dtype=torch.float64, requires_grad=True) for column in zip(*pairs, strict=True)]


def generator_side(real, fake, form):
    return generator_loss(fake, real if form == "relativistic" else None, form=form)


@given(pairs=logits, form=forms)
def test_losses_are_the_formulas(slow, pairs, form):
    real, fake = leaves(pairs)
    columns = real.tolist(), fake.tolist()
    loss = discriminator_loss(real, fake, form=form).item()
    assert loss == pytest.approx(slow.discriminator_loss(*columns, form), rel=1e-9, abs=1e-9)
    loss = generator_side(real, fake, form).item()
    assert loss == pytest.approx(slow.generator_loss(*columns, form), rel=1e-9, abs=1e-9)


@given(pairs=logits)
def test_the_plain_form_is_eq_1_played_from_both_sides(slow, pairs):
    """The discriminator maximises Eq. 1; the generator minimises it, by the term that it can change."""
    real, fake = leaves(pairs)
    objective = slow.eq_1(real.tolist(), fake.tolist())
    assert -discriminator_loss(real, fake, form="plain").item() == pytest.approx(objective, rel=1e-9, abs=1e-9)
    (by_generator,) = torch.autograd.grad(generator_loss(fake, form="plain"), fake)
    (by_discriminator,) = torch.autograd.grad(discriminator_loss(real, fake, form="plain"), fake)
    torch.testing.assert_close(by_generator, -by_discriminator)


@given(pairs=logits, form=forms)
def test_gradients_are_the_closed_forms(slow, pairs, form):
    real, fake = leaves(pairs)
    columns = real.tolist(), fake.tolist()
    gradients = torch.autograd.grad(discriminator_loss(real, fake, form=form), (real, fake))
    for gradient, expected in zip(gradients, slow.discriminator_gradient(*columns, form), strict=True):
        torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(generator_side(real, fake, form), fake)
    torch.testing.assert_close(gradient, torch.tensor(slow.generator_gradient(*columns, form), dtype=torch.float64))


@pytest.mark.parametrize("form", FORMS)
def test_a_sure_discriminator_starves_the_plain_form_alone(form):
    real, fake = torch.full((4,), 40.0), torch.full((4,), -40.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_side(real, fake, form), fake)
    assert (gradient.abs().sum().item() < 1e-12) == (form == "plain")
    assert discriminator_loss(real, fake, form=form).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_huge_logits_stay_finite(form):
    real, fake = torch.tensor([1e4, -1e4]), torch.tensor([-1e4, 1e4])
    assert discriminator_loss(real, fake, form=form).isfinite()
    assert generator_side(real, fake, form).isfinite()


def test_the_best_logit_is_the_log_ratio_of_the_densities():
    """Eq. 1 over four videos of known probability: at log p - log q the gradient vanishes, and the value is known."""
    p, q = torch.tensor([5, 3, 1, 1]), torch.tensor([1, 2, 3, 4])
    logit = (p / q).double().log().requires_grad_()
    loss = discriminator_loss(logit.repeat_interleave(p), logit.repeat_interleave(q))
    (gradient,) = torch.autograd.grad(loss, logit)
    torch.testing.assert_close(gradient, torch.zeros(4, dtype=torch.float64))
    p, q = p.double() / p.sum(), q.double() / q.sum()
    middle = (p + q) / 2
    divergence = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    assert loss.item() == pytest.approx(2 * math.log(2) - 2 * divergence.item())


def test_logits_of_patches_are_averaged_and_batches_may_differ():
    real, fake = torch.randn(3, 4, 5), torch.randn(2, 7)
    torch.testing.assert_close(discriminator_loss(real, fake), discriminator_loss(real.flatten(), fake.flatten()))
    assert discriminator_loss(real.bfloat16(), fake.bfloat16()).dtype == torch.float32


@pytest.mark.usefixtures("unhooked")
def test_forms_that_do_not_fit_are_named():
    real, fake = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match="real and fake logits of the relativistic form have shapes"):
        discriminator_loss(real, fake, form="relativistic")
    with pytest.raises(ValueError, match="real and fake logits of the relativistic form have shapes"):
        generator_loss(fake, real, form="relativistic")
    with pytest.raises(ValueError, match="form is 'relativistic' and no logits of real videos were given"):
        generator_loss(fake, form="relativistic")
    with pytest.raises(
        ValueError, match="logits of real videos were given; 'relativistic' needs them, and no other form"
    ):
        generator_loss(fake, real, form="plain")
    with pytest.raises(ValueError, match="form is 'hinge'; expected one of 'plain', 'non_saturating', 'relativistic'"):
        discriminator_loss(real, fake, form="hinge")


def quadratic(seed=0):
    """A discriminator x' M x / 2 + w' x whose gradient M x + w is known."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix, vector = matrix + matrix.T, torch.randn(6, generator=generator, dtype=torch.float64)

    def discriminator(x):
        flat = x.flatten(1)
        return (flat @ matrix * flat).sum(1) / 2 + flat @ vector

    return discriminator, lambda x: x.flatten(1) @ matrix + vector


def videos(count, seed=1):
    return torch.randn(count, 1, 1, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_exact_penalty_is_the_mean_squared_gradient():
    discriminator, gradient = quadratic()
    x = videos(5)
    expected = gradient(x).square().sum(1).mean()
    torch.testing.assert_close(gradient_penalty(discriminator, x), expected)
    with torch.no_grad():
        torch.testing.assert_close(gradient_penalty(discriminator, x), expected)


def test_exact_penalty_trains_the_discriminator():
    """For D = w' x the penalty is |w|^2, and its gradient 2 w."""
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, videos(3))
    torch.testing.assert_close(torch.autograd.grad(penalty, weight)[0], 2 * weight.detach())


def test_estimated_penalty_approaches_the_exact_one():
    """Its mean over 40,000 steps, within four standard errors; a linear discriminator leaves no error of the step."""
    weight = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = videos(1).expand(40_000, -1, -1, -1, -1)
    estimate = gradient_penalty(
        lambda x: x.flatten(1) @ weight, x, sigma=0.01, generator=torch.Generator().manual_seed(3)
    )
    exact = weight.square().sum().item()
    assert estimate.item() == pytest.approx(exact, abs=4 * math.sqrt(2) * exact / 200)


def test_estimated_penalty_is_a_squared_difference_quotient():
    discriminator, _ = quadratic()
    x = videos(4)
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    expected = ((discriminator(x + 0.1 * step) - discriminator(x)) / 0.1).square().mean()
    estimate = gradient_penalty(discriminator, x, sigma=0.1, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(estimate, expected)


@pytest.mark.parametrize("options", [{}, {"sigma": 0.05}])
def test_several_logits_of_a_video_are_averaged(options):
    discriminator, _ = quadratic()
    x = videos(3)

    def penalty(d):
        generator = {"generator": torch.Generator().manual_seed(0)} if options else {}
        return gradient_penalty(d, x, **options, **generator)

    patches = penalty(lambda x: discriminator(x)[:, None, None] * torch.tensor([[0.5, 1.5], [3.0, -1.0]]))
    torch.testing.assert_close(patches, penalty(discriminator))


def test_the_samples_own_graph_is_not_followed():
    x = videos(2).requires_grad_()
    discriminator, _ = quadratic()
    assert not gradient_penalty(discriminator, x * 1, sigma=0.1, generator=torch.Generator()).requires_grad
    gradient_penalty(discriminator, x * 1)
    assert x.grad is None


def test_penalty_settings_that_do_not_fit_are_named():
    discriminator, _ = quadratic()
    with pytest.raises(ValueError, match="sigma and generator go together"):
        gradient_penalty(discriminator, videos(1), sigma=0.1)
    with pytest.raises(ValueError, match="sigma and generator go together"):
        gradient_penalty(discriminator, videos(1), generator=torch.Generator())
    with pytest.raises(ValueError, match=r"sigma is 0.0; expected a length above 0"):
        gradient_penalty(discriminator, videos(1), sigma=0.0, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"returns logits of shape \(\) for a batch of 2"):
        gradient_penalty(lambda x: x.sum(), videos(2))
