"""Self Forcing by distillation: the predictions of a teacher and a critic on noisy generated videos (DMD and SiD).

The teacher is a frozen model of the distribution of real videos. The critic models the distribution of generated
videos: it is trained together with the generator, by `flow_matching_loss` on detached generated videos. If both agree
at every level, the two distributions are equal.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from forcing_losses.flow_matching import interpolate, mean_squared_error, per_frame, require_same_shape, widened

VelocityModel = Callable[[Tensor, Tensor], Tensor]
"""``model(noisy[b c t h w], level[b t]) -> velocity[b c t h w]``. Bind prompts and guidance beforehand."""

_SMALLEST_SCALE = 1e-6
"""Smallest divisor. Dividing by less would only enlarge rounding errors."""


def distribution_matching_loss(
    generated: Float[Tensor, "b c t h w"],
    teacher: Float[Tensor, "b c t h w"] | VelocityModel,
    critic: Float[Tensor, "b c t h w"] | VelocityModel,
    *,
    noise: Float[Tensor, "b c t h w"],
    level: Float[Tensor, "#b #t"],
    normalize: bool = True,
    weight: Float[Tensor, "#b #t"] | Float[Tensor, "#b #c #t #h #w"] | None = None,
) -> Float[Tensor, ""]:
    """Distribution matching distillation (DMD): a scalar whose gradient is the difference of two clean estimates.

    Let x_t = (1 - t) * generated + t * noise, and let x0(v) = x_t - t * v be the clean estimate from a velocity v. The
    gradient with respect to `generated` is (x0(critic) - x0(teacher)) / number of elements. Up to a positive factor,
    this is the gradient of the divergence KL(generated || real), with the teacher as the model of real videos. Neither
    model is differentiated. The value is only the length of the step; it does not measure the quality of the videos.

    Args:
        generated: Clean latents from the generator, with a graph.
        teacher: Velocity of the frozen model of real videos at `interpolate(generated, noise, level)`, or a function
            that computes it.
        critic: The same for the model of generated videos.
        noise: Standard normal noise.
        level: Level t of every frame, in (0, 1]. At level 0 there is no gradient.
        normalize: Divide each video's gradient by mean |generated - x0(teacher)|, as DMD does, so that the gradients of
            all levels have about the same size.
        weight: Weight of every frame, [b t], or of every latent, as in `flow_matching_loss`.

    Returns:
        A scalar, computed in float32 or better.
    """
    with torch.no_grad():
        sample = widened(generated.detach())
        by_teacher, by_critic = _denoised(generated.detach(), teacher, critic, noise=noise, level=level)
        direction = by_critic - by_teacher
        if normalize:
            direction = direction / _scale(sample, by_teacher)
    return 0.5 * mean_squared_error(generated, sample - direction, weight=weight)


def score_identity_loss(
    generated: Float[Tensor, "b c t h w"],
    teacher: Float[Tensor, "b c t h w"] | VelocityModel,
    critic: Float[Tensor, "b c t h w"] | VelocityModel,
    *,
    noise: Float[Tensor, "b c t h w"],
    level: Float[Tensor, "#b #t"],
    alpha: float = 1.0,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    """Score identity distillation (SiD): an estimate of the Fisher divergence to the teacher's distribution.

    With x0(v) as in `distribution_matching_loss` and gap = x0(teacher) - x0(critic), the loss is the mean of
    gap * (x0(teacher) - generated) - alpha * gap^2. For a perfect critic the expectation of the first term is gap^2;
    this is the score identity. The loss is then (1 - alpha) * gap^2 in expectation. With alpha = 1 its gradient is not
    0, because the critic counts as fixed. Unlike DMD, SiD differentiates through both models with respect to their
    input. Freeze their parameters, or discard the gradients of the parameters.

    Args:
        generated: Clean latents from the generator, with a graph.
        teacher: Velocity of the frozen model of real videos at `interpolate(generated, noise, level)`, or a function
            that computes it. A tensor must have been computed from these noisy latents with gradients on.
        critic: The same for the model of generated videos.
        noise: Standard normal noise.
        level: Level t of every frame, in (0, 1].
        alpha: Weight of the squared gap. The usual values are 1 and 1.2.
        normalize: Divide each video's loss by mean |generated - x0(teacher)|. The divisor is not differentiated.

    Returns:
        A scalar, computed in float32 or better. It may be negative.
    """
    if generated.requires_grad and torch.is_grad_enabled():
        for name, prediction in (("teacher", teacher), ("critic", critic)):
            if isinstance(prediction, Tensor) and not prediction.requires_grad:
                raise ValueError(
                    f"{name} is a tensor without a graph, and SiD differentiates through it; compute it from "
                    "interpolate(generated, noise, level) with gradients on, or pass a function"
                )
    sample = widened(generated)
    by_teacher, by_critic = _denoised(generated, teacher, critic, noise=noise, level=level)
    gap = by_teacher - by_critic
    loss = gap * (by_teacher - sample) - alpha * gap.square()
    if normalize:
        loss = loss / _scale(sample.detach(), by_teacher.detach())
    return loss.mean()


def _denoised(
    generated: Tensor, teacher: Tensor | VelocityModel, critic: Tensor | VelocityModel, *, noise: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    """Clean estimates x_t - t * v by the teacher and the critic."""
    noisy = interpolate(generated, noise, level)
    batch, frames = generated.shape[0], generated.shape[2]
    t = per_frame(level, generated, name="level").to(widened(noisy).dtype)
    estimates = []
    for name, model in (("teacher", teacher), ("critic", critic)):
        velocity = model if isinstance(model, Tensor) else model(noisy, level.expand(batch, frames))
        require_same_shape(velocity, noisy, names=f"the velocity of the {name} and generated")
        estimates.append(widened(noisy) - t * widened(velocity))
    return estimates[0], estimates[1]


def _scale(sample: Tensor, by_teacher: Tensor) -> Float[Tensor, "b 1 1 1 1"]:
    """Mean absolute distance of each video from its clean estimate by the teacher."""
    return (sample - by_teacher).abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp_min(_SMALLEST_SCALE)
