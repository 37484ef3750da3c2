"""Self Forcing by scores: what a teacher and a critic say about a noisy version of a generated video (DMD and SiD).

The teacher is a frozen model of the real distribution; the critic, trained beside the generator with
`flow_matching_loss` on detached generated videos, models what the generator makes at present. Where both agree at every
level, the two distributions are one.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from forcing_losses.flow_matching import interpolate, mean_squared_error, per_frame, require_same_shape, widened

VelocityModel = Callable[[Tensor, Tensor], Tensor]
"""``model(noisy[b c t h w], level[b t]) -> velocity[b c t h w]``; prompts and guidance are bound beforehand."""

_SMALLEST_SCALE = 1e-6
"""Below this the teacher has nothing to say about a sample; dividing by less would only enlarge rounding."""


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
    """Distribution matching distillation (DMD): a scalar whose gradient is the difference of two denoised estimates.

    With x0(v) = x_t - t * v the clean estimate from a velocity at x_t = (1 - t) * generated + t * noise, the gradient
    with respect to `generated` is (x0(critic) - x0(teacher)) / number of elements: the gradient of the KL divergence
    between what the generator makes and what the teacher knows, up to a positive factor. Neither model is
    differentiated. The value itself says only how long the step is, not how good the videos are.

    Args:
        generated: Clean latents from the generator, with a graph.
        teacher: Velocity of the frozen model of real videos at `interpolate(generated, noise, level)`, or a function
            that computes it.
        critic: The same for the model of generated videos.
        noise: Standard normal noise.
        level: Level t of every frame, in (0, 1]; at 0 there is no gradient.
        normalize: Divide each video's gradient by mean |generated - x0(teacher)|, as DMD does, so that all levels
            pull about equally.
        weight: Of every frame, [b t], or of every latent, as in `flow_matching_loss`.

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
    """Score identity distillation (SiD): the Fisher divergence to the teacher, by way of an identity of scores.

    With x0(v) as in `distribution_matching_loss` and gap = x0(teacher) - x0(critic), it is the mean of
    gap * (x0(teacher) - generated) - alpha * gap^2. For a perfect critic the first term is gap^2 in expectation (the
    identity), so the whole is (1 - alpha) * gap^2; its gradient at alpha = 1 is not 0, since it counts the critic as
    fixed. Unlike DMD it differentiates through both models, with respect to their input: freeze their parameters, or
    throw the parameters' gradients away.

    Args:
        generated: Clean latents from the generator, with a graph.
        teacher: Velocity of the frozen model of real videos at `interpolate(generated, noise, level)`, or a function
            that computes it. A tensor must have been computed from those very noisy latents, with their graph.
        critic: The same for the model of generated videos.
        noise: Standard normal noise.
        level: Level t of every frame, in (0, 1].
        alpha: Weight of the squared gap; 1 and 1.2 are the values in use.
        normalize: Divide each video's loss by mean |generated - x0(teacher)|, which is not differentiated.

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
    """Clean estimates x_t - t * v of teacher and critic."""
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
    """Mean distance of each video from what the teacher makes of it."""
    return (sample - by_teacher).abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp_min(_SMALLEST_SCALE)
