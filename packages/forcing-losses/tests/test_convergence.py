"""Generators of points in the plane find the known optimum: the mean and covariance of the data.

A point is a video of two channels, one frame and one pixel; data are N(LOCATION, COVARIANCE); the generator is affine.
"""

import pytest
import torch

from forcing_losses import (
    discriminator_loss,
    distribution_matching_loss,
    flow_matching_loss,
    generator_loss,
    gradient_penalty,
    interpolate,
    score_identity_loss,
)

LOCATION = torch.tensor([1.0, -0.5])
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]])


class Affine(torch.nn.Module):
    """z -> A z + b: every normal distribution of the plane."""

    def __init__(self):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.tensor([[0.5, 0.0], [0.0, 2.0]]))
        self.shift = torch.nn.Parameter(torch.tensor([-1.0, 1.0]))

    def forward(self, z):
        return as_videos(z @ self.matrix.T + self.shift)

    def distance(self):
        """Of mean and covariance from those of the data: the largest difference."""
        covariance = self.matrix @ self.matrix.T
        differences = torch.cat(((self.shift - LOCATION), (covariance - COVARIANCE).flatten()))
        return differences.abs().max().item()


class GaussianVelocity(torch.nn.Module):
    """The best velocity for normal data, in closed form: exact as a teacher, trained as a critic."""

    def __init__(self, location, covariance):
        super().__init__()
        self.location = torch.nn.Parameter(location.clone())
        self.root = torch.nn.Parameter(torch.linalg.cholesky(covariance))

    def forward(self, noisy, level):
        t, x = level[:, 0, None], noisy.flatten(1)
        covariance = self.root @ self.root.T
        a, b, d = (((1 - t) ** 2 * covariance[i, j] + t**2 * (i == j)) for i, j in ((0, 0), (0, 1), (1, 1)))
        away = x - (1 - t) * self.location
        away = torch.cat((d * away[:, :1] - b * away[:, 1:], a * away[:, 1:] - b * away[:, :1]), dim=1)
        away = away / (a * d - b * b)  # the inverse of two by two, by hand
        return as_videos(t * away - self.location - (1 - t) * away @ covariance)


def as_videos(points):
    return points[:, :, None, None, None]


def exact_sample(count, generator):
    """Points with a mean of exactly 0 and a covariance of exactly 1."""
    points = torch.randn(count, 2, generator=generator)
    points = points - points.mean(dim=0)
    return points @ torch.linalg.inv(torch.linalg.cholesky(points.T @ points / count)).T


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_closed_form_velocity_is_bayes_rule(slow):
    teacher = GaussianVelocity(LOCATION, COVARIANCE)
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    level = torch.linspace(0.1, 1.0, 5)
    expected = [slow.gaussian_velocity(point, t, LOCATION, COVARIANCE) for point, t in zip(points, level, strict=True)]
    torch.testing.assert_close(teacher(as_videos(points), level[:, None]).flatten(1), torch.stack(expected))


@pytest.mark.parametrize("form", ["plain", "non_saturating", "relativistic"])
def test_adversarial_training_by_eq_1_ends_at_the_data(form):
    """A discriminator of quadratic features sees means and covariances; R1 and R2 damp the oscillation."""
    generator = torch.Generator().manual_seed(0)
    data = as_videos(exact_sample(64, generator) @ torch.linalg.cholesky(COVARIANCE).T + LOCATION)
    z = exact_sample(64, generator)
    affine, weight = Affine(), torch.zeros(5, requires_grad=True)

    def discriminator(x):
        x, y = x.flatten(1).unbind(1)
        return torch.stack((x, y, x * x, x * y, y * y), dim=1) @ weight

    for_generator = torch.optim.Adam(affine.parameters(), lr=0.06, betas=(0.0, 0.99))
    for_discriminator = torch.optim.Adam([weight], lr=0.15, betas=(0.0, 0.99))
    slower = [torch.optim.lr_scheduler.ExponentialLR(o, 0.985) for o in (for_generator, for_discriminator)]
    for _ in range(250):
        fake = affine(z).detach()
        penalty = gradient_penalty(discriminator, data) + gradient_penalty(discriminator, fake)
        step(
            for_discriminator, discriminator_loss(discriminator(data), discriminator(fake), form=form) + 0.05 * penalty
        )
        real = discriminator(data) if form == "relativistic" else None
        step(for_generator, generator_loss(discriminator(affine(z)), real, form=form))
        for schedule in slower:
            schedule.step()
    assert affine.distance() < 0.05
    assert discriminator(data).abs().max() < 0.05  # it cannot tell them apart


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (distribution_matching_loss, {}),
        (distribution_matching_loss, {"normalize": False}),
        (score_identity_loss, {"alpha": 1.0}),
        (score_identity_loss, {"alpha": 1.2, "normalize": False}),
    ],
    ids=["dmd", "dmd-plain", "sid", "sid-plain"],
)
def test_a_teacher_and_a_trained_critic_lead_to_the_data(loss, options):
    generator = torch.Generator().manual_seed(0)
    teacher = GaussianVelocity(LOCATION, COVARIANCE).requires_grad_(False)
    critic = GaussianVelocity(torch.zeros(2), torch.eye(2))
    student = Affine()
    by_student = torch.optim.Adam(student.parameters(), lr=0.1)
    by_critic = torch.optim.Adam(critic.parameters(), lr=0.15)
    slower = [torch.optim.lr_scheduler.ExponentialLR(o, 0.975) for o in (by_student, by_critic)]

    def draw():
        z, noise = torch.randn(2, 256, 2, generator=generator)
        return student(z), as_videos(noise), 0.02 + 0.96 * torch.rand(256, 1, generator=generator)

    for _ in range(120):
        for _ in range(2):
            made, noise, level = draw()
            made = made.detach()
            step(by_critic, flow_matching_loss(critic(interpolate(made, noise, level), level), made, noise))
        made, noise, level = draw()
        step(by_student, loss(made, teacher, critic, noise=noise, level=level, **options))
        for schedule in slower:
            schedule.step()
    assert student.distance() < 0.1


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.2])
def test_sid_is_the_fisher_divergence_up_to_a_factor(alpha):
    """The identity behind its name: with the best critic the mean is (1 - alpha) * gap^2, over 200,000 draws."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = GaussianVelocity(LOCATION, COVARIANCE), Affine()
    best = GaussianVelocity(student.shift.detach(), (student.matrix @ student.matrix.T).detach())
    with torch.no_grad():
        z, noise = torch.randn(2, 200_000, 2, generator=generator)
        made, noise, level = student(z), as_videos(noise), torch.full((1, 1), 0.5)
        noisy = interpolate(made, noise, level)
        gap = 0.5 * (best(noisy, level) - teacher(noisy, level))
        value = score_identity_loss(made, teacher, best, noise=noise, level=level, alpha=alpha, normalize=False)
    assert value.item() == pytest.approx((1 - alpha) * gap.square().mean().item(), abs=0.02)
