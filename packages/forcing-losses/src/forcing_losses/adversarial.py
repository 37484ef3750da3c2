"""Self Forcing with a discriminator that scores whole generated videos (BlockVid section 3.2, Eq. 1)."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from forcing_losses.flow_matching import require_same_shape, widened

AdversarialForm = Literal["plain", "non_saturating", "relativistic"]
"""`plain`: Eq. 1 as published. `non_saturating`: the same loss of the discriminator, and a generator that maximises
log D. `relativistic`: the logits of pairs of a real and a generated video are compared."""


def discriminator_loss(
    real: Float[Tensor, "*real"], fake: Float[Tensor, "*fake"], *, form: AdversarialForm = "non_saturating"
) -> Float[Tensor, ""]:
    """Loss of the discriminator: the negative of BlockVid Eq. 1, with D(x) = sigmoid(logit).

    `plain` and `non_saturating` are the same: -E[log D(real)] - E[log(1 - D(fake))]. The optimal logit is
    log p_data - log p_generated. `relativistic` is -E[log sigmoid(real - fake)] over pairs.

    Args:
        real: Logits of real videos, one per video or one per patch. A larger logit means more real.
        fake: Logits of generated videos. Generate the videos without a graph, or detach them.
        form: See `AdversarialForm`. `relativistic` pairs logits by position, so both need the same shape.

    Returns:
        A scalar mean, computed in float32 or better.
    """
    _check_form(form)
    if form == "relativistic":
        require_same_shape(real, fake, names="real and fake logits of the relativistic form")
        return softplus(widened(fake) - widened(real)).mean()
    return softplus(-widened(real)).mean() + softplus(widened(fake)).mean()


def generator_loss(
    fake: Float[Tensor, "*fake"],
    real: Float[Tensor, "*real"] | None = None,
    *,
    form: AdversarialForm = "non_saturating",
) -> Float[Tensor, ""]:
    """Loss of the generator: its part of BlockVid Eq. 1, with D(x) = sigmoid(logit).

    `plain` is E[log(1 - D(fake))], as published. Its gradient vanishes if the discriminator is certain, as it often is
    at the start of training. `non_saturating` is -E[log D(fake)]. It has the same fixed point, and its gradient does
    not vanish. `relativistic` is -E[log sigmoid(fake - real)] over pairs.

    Args:
        fake: Logits of generated videos, with a graph back to the generator.
        real: Logits of real videos, only for `relativistic`, which pairs them with `fake` by position.
        form: See `AdversarialForm`. Use the same form for `discriminator_loss`.

    Returns:
        A scalar mean, computed in float32 or better.
    """
    _check_form(form)
    if (real is not None) != (form == "relativistic"):
        given = "no logits of real videos were" if real is None else "logits of real videos were"
        raise ValueError(f"form is {form!r} and {given} given; 'relativistic' needs them, and no other form takes them")
    if real is not None:
        require_same_shape(real, fake, names="real and fake logits of the relativistic form")
        return softplus(widened(real) - widened(fake)).mean()
    if form == "plain":
        return -softplus(widened(fake)).mean()
    return softplus(-widened(fake)).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor],
    samples: Float[Tensor, "b ..."],
    *,
    sigma: float | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Mean squared gradient of the logit with respect to the video: R1 on real videos, R2 on generated ones.

    The exact penalty needs second derivatives of the discriminator, which fused attention often does not have. With a
    `sigma` the penalty is estimated from a random step e, in two ordinary passes:
    E[((D(x + sigma * e) - D(x)) / sigma)^2]. As sigma goes to 0, the mean of the estimate becomes the exact value. So
    both have the same weight in the loss.

    Args:
        discriminator: Function of a batch of videos that returns logits [b] or [b ...]. The logits of a video must not
            depend on other videos. Several logits of a video are averaged first. Bind other arguments, such as levels
            and conditions, beforehand.
        samples: Videos. Gradients do not flow back to where they came from.
        sigma: None: the exact penalty. Otherwise the length of the random step, above 0. For latents of unit variance
            0.01 to 0.1 is usual.
        generator: Source of the random steps. Give it with `sigma` only.

    Returns:
        A scalar mean over the batch, neither halved nor weighted, in float32 or better.
    """
    if (sigma is None) != (generator is None):
        raise ValueError("sigma and generator go together: give both for the estimate, neither for the exact penalty")
    if sigma is None or generator is None:
        return _exact_penalty(discriminator, samples.detach())
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; expected a length above 0, such as 0.01")
    start = samples.detach()
    step = torch.randn(start.shape, generator=generator, device=generator.device).to(start)
    change = _score(discriminator(start + sigma * step), start) - _score(discriminator(start), start)
    return (change / sigma).square().mean()


def _exact_penalty(discriminator: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    trains = torch.is_grad_enabled()
    with torch.enable_grad():  # needed even if the caller has switched gradients off
        start = samples.requires_grad_()
        total = _score(discriminator(start), start).sum()
        (gradient,) = torch.autograd.grad(total, start, create_graph=trains)
    return widened(gradient).square().flatten(1).sum(dim=1).mean()


def _score(logits: Tensor, samples: Tensor) -> Float[Tensor, " b"]:
    """One logit for each video."""
    if logits.ndim == 0 or logits.shape[0] != samples.shape[0]:
        raise ValueError(
            f"the discriminator returns logits of shape {tuple(logits.shape)} for a batch of {samples.shape[0]}; "
            "expected [b] or [b ...]"
        )
    return widened(logits).flatten(1).mean(dim=1) if logits.ndim > 1 else widened(logits)


def _check_form(form: str) -> None:
    if form not in get_args(AdversarialForm):
        raise ValueError(f"form is {form!r}; expected one of {', '.join(map(repr, get_args(AdversarialForm)))}")
