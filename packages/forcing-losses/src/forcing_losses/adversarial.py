"""Self Forcing as a game: a discriminator judges generated videos whole (BlockVid section 3.2, Eq. 1)."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from forcing_losses.flow_matching import require_same_shape, widened

AdversarialForm = Literal["plain", "non_saturating", "relativistic"]
"""`plain`: Eq. 1 as published. `non_saturating`: the same discriminator, and a generator that maximises log D.
`relativistic`: each real video against one generated video."""


def discriminator_loss(
    real: Float[Tensor, "*real"], fake: Float[Tensor, "*fake"], *, form: AdversarialForm = "non_saturating"
) -> Float[Tensor, ""]:
    """What the discriminator minimises: the negated Eq. 1 of BlockVid, with D(x) = sigmoid(logit).

    `plain` and `non_saturating` are one loss here, -E[log D(real)] - E[log(1 - D(fake))]; its best logit is
    log p_data - log p_generated. `relativistic` is -E[log sigmoid(real - fake)] over pairs.

    Args:
        real: Logits of real videos, one each or one for each patch; larger means more real.
        fake: Logits of generated videos. Generate them without a graph, or detach them.
        form: See `AdversarialForm`; `relativistic` pairs logits by position, so both need one shape.

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
    """What the generator minimises: its side of Eq. 1 of BlockVid, with D(x) = sigmoid(logit).

    `plain` is E[log(1 - D(fake))] as published: its gradient vanishes where the discriminator is sure, which is how
    training begins. `non_saturating` is -E[log D(fake)]: the same fixed point, and a gradient there.
    `relativistic` is -E[log sigmoid(fake - real)] over pairs.

    Args:
        fake: Logits of generated videos, with a graph that leads to the generator.
        real: Logits of real videos, for `relativistic` alone, which pairs them with `fake` by position.
        form: See `AdversarialForm`; the one that `discriminator_loss` is given.

    Returns:
        A scalar mean, computed in float32 or better.
    """
    _check_form(form)
    if (real is not None) != (form == "relativistic"):
        raise ValueError(f"form is {form!r}; give logits of real videos to 'relativistic', and to no other form")
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
    """E of the squared gradient of the logit with respect to the video: R1 on real samples, R2 on generated ones.

    Exact, it differentiates twice: the discriminator's operations must allow that (fused attention often does not).
    With a `sigma` it is estimated from a random step instead, E[((D(x + sigma * e) - D(x)) / sigma)^2], in two plain
    passes; as sigma goes to 0 its mean is the exact value, so both take the same weight in the total loss.

    Args:
        discriminator: Logits [b] or [b ...] of a batch, each video judged on its own. Several logits of a video are
            averaged first. Bind what else it takes (levels, conditions) beforehand.
        samples: Videos; their own graph is not followed.
        sigma: None: exact. Otherwise the length of the random step, above 0; 0.01 to 0.1 for latents of unit variance.
        generator: Source of the random steps; needed with `sigma`, and only then.

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
    with torch.enable_grad():  # also where a loss is only logged
        start = samples.requires_grad_()
        total = _score(discriminator(start), start).sum()
        (gradient,) = torch.autograd.grad(total, start, create_graph=trains)
    return widened(gradient).square().flatten(1).sum(dim=1).mean()


def _score(logits: Tensor, samples: Tensor) -> Float[Tensor, " b"]:
    """One logit for each video."""
    if logits.ndim == 0 or logits.shape[0] != samples.shape[0]:
        raise ValueError(
            f"the discriminator answers {tuple(logits.shape)} to a batch of {samples.shape[0]}; expected [b] or [b ...]"
        )
    return widened(logits).flatten(1).mean(dim=1) if logits.ndim > 1 else widened(logits)


def _check_form(form: str) -> None:
    if form not in get_args(AdversarialForm):
        raise ValueError(f"form is {form!r}; expected one of {', '.join(map(repr, get_args(AdversarialForm)))}")
