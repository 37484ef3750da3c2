import pytest
import torch

from forcing_losses import FeatureDiscriminator, VideoDiscriminator, discriminator_loss, gradient_penalty


def stirred(module, seed=0):
    """The module with no weight left at zero, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.double()


def video_discriminator(**options):
    return stirred(VideoDiscriminator(3, **{"width": 12, "num_layers": 2, "num_heads": 2} | options))


def videos(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 5, 4, 6), (3, 40, 2, 2)])
def test_one_logit_for_each_video_of_any_length_and_size(shape):
    batch, *size = shape
    assert video_discriminator()(videos(batch, 3, *size)).shape == (batch,)


def test_a_new_discriminator_cannot_tell():
    """D = 1/2 everywhere, at which Eq. 1 is -log 4."""
    discriminator = VideoDiscriminator(3, width=12, num_layers=1, num_heads=2, condition_dim=5)
    x = torch.randn(2, 3, 4, 2, 2)
    logits = discriminator(x, condition=torch.randn(2, 5))
    assert not logits.any()
    torch.testing.assert_close(discriminator_loss(logits, logits), torch.tensor(4.0).log())


def test_each_video_has_a_logit_of_its_own():
    discriminator, x = video_discriminator(), videos(3, 3, 4, 4, 2)
    torch.testing.assert_close(discriminator(x), torch.cat([discriminator(one[None]) for one in x]))


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_order_in_time_and_space_matters(axis):
    discriminator, x = video_discriminator(patch_size=(1, 1, 1)), videos(1, 3, 4, 4, 4)
    assert not torch.allclose(discriminator(x), discriminator(x.flip(axis)))


def test_every_latent_reaches_the_logit_and_every_weight_is_used():
    discriminator, x = video_discriminator(condition_dim=5), videos(2, 3, 4, 4, 2).requires_grad_()
    discriminator(x, level=torch.rand(2, 4).double(), condition=videos(2, 5)).sum().backward()
    assert (x.grad != 0).all()
    unused = {name for name, weight in discriminator.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert not unused


def test_levels_and_conditions_change_the_verdict():
    discriminator, x = video_discriminator(condition_dim=5), videos(1, 3, 4, 2, 2)
    one, other = videos(1, 5), videos(1, 5, seed=2)
    clean = discriminator(x, condition=one)
    # equal up to the last bit: kernels may sum in another order from one call to the next
    torch.testing.assert_close(clean, discriminator(x, level=torch.zeros(1, 4), condition=one), rtol=1e-12, atol=0.0)
    assert not torch.allclose(clean, discriminator(x, level=torch.full((1, 1), 0.3), condition=one))
    assert not torch.allclose(clean, discriminator(x, condition=other))
    late = torch.tensor([[0.0, 0.0, 0.0, 0.9]])
    assert not torch.allclose(clean, discriminator(x, level=late, condition=one))


def test_patches_of_several_frames_take_the_mean_level():
    discriminator, x = video_discriminator(patch_size=(2, 2, 2)), videos(1, 3, 4, 2, 2)
    uneven, even = torch.tensor([[0.2, 0.4, 0.5, 0.9]]), torch.tensor([[0.3, 0.3, 0.7, 0.7]])
    torch.testing.assert_close(discriminator(x, level=uneven), discriminator(x, level=even))


def test_exact_gradient_penalty_trains_it():
    """Second derivatives against the slope of the penalty itself, along a random direction of the weights."""
    discriminator, x = video_discriminator(num_layers=1), videos(1, 3, 2, 2, 4)
    weights = list(discriminator.parameters())
    penalty = gradient_penalty(discriminator, x)
    gradients = torch.autograd.grad(penalty, weights, allow_unused=True)
    direction = [videos(*weight.shape, seed=3) for weight in weights]
    expected = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
    values = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for weight, d in zip(weights, direction, strict=True):
                weight += step * d
            values.append(gradient_penalty(discriminator, x))
    torch.testing.assert_close((values[0] - values[1]) / 2e-6, expected, rtol=1e-5, atol=0)


def test_half_precision_answers_in_float32():
    discriminator = video_discriminator().bfloat16()
    assert discriminator(videos(1, 3, 2, 2, 2).bfloat16()).dtype == torch.float32


def test_features_may_differ_in_their_number_of_tokens():
    head = stirred(FeatureDiscriminator(8, num_features=2, condition_dim=5))
    first, second, condition = videos(2, 7, 8), videos(2, 3, 8), videos(2, 5)
    logits = head([first, second], condition=condition)
    assert logits.shape == (2,)
    assert not torch.allclose(logits, head([second, first], condition=condition))


def test_a_head_does_not_depend_on_the_order_of_tokens():
    """Order is the business of the transformer whose features they are."""
    head, tokens = stirred(FeatureDiscriminator(8)), videos(2, 7, 8)
    torch.testing.assert_close(head(tokens), head([tokens.flip(1)]))


@pytest.mark.usefixtures("unhooked")
def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="width is 10 and num_heads is 4; expected a width"):
        VideoDiscriminator(3, width=10)
    with pytest.raises(ValueError, match="width is 9; expected an even number"):
        VideoDiscriminator(3, width=9, num_heads=3)
    with pytest.raises(ValueError, match="num_features is 0"):
        FeatureDiscriminator(8, num_features=0)
    discriminator = video_discriminator()
    with pytest.raises(ValueError, match=r"latents are \(1, 3, 2\) in \[t h w\]; expected multiples of patch_size"):
        discriminator(videos(1, 3, 1, 3, 2))
    with pytest.raises(ValueError, match=r"level has shape \(1, 2\); expected \[batch, frames\] = \[1, 4\]"):
        discriminator(videos(1, 3, 4, 2, 2), level=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="condition and condition_dim belong together"):
        discriminator(videos(1, 3, 1, 2, 2), condition=videos(1, 5))
    with pytest.raises(ValueError, match="features has 2 layers; the head was built for 1"):
        FeatureDiscriminator(8)([torch.zeros(1, 2, 8)] * 2)
