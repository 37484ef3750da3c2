"""Flow matching between clean latents and Gaussian noise (BlockVid Eqs. 2-4)."""

import torch
from jaxtyping import Float
from torch import Tensor


def interpolate(
    clean: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"], level: Float[Tensor, "#b #t"]
) -> Float[Tensor, "b c t h w"]:
    """Latents on the straight path from clean to noise: x_t = (1 - t) * clean + t * noise (BlockVid Eq. 2).

    Args:
        clean: Clean latents.
        noise: Standard normal noise.
        level: Level t of every frame, 0 (clean) to 1 (pure noise).

    Returns:
        Noisy latents in the dtype of `clean`. They are computed in float32 or better.
    """
    require_same_shape(clean, noise, names="clean and noise")
    start = widened(clean)
    t = per_frame(level, clean, name="level").to(start.dtype)
    return ((1 - t) * start + t * noise).to(clean.dtype)


def velocity(clean: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Velocity of the path of `interpolate`: v = noise - clean (BlockVid Eq. 3). The model learns to predict it.

    Args:
        clean: Clean latents.
        noise: The noise that `interpolate` mixed in.
    """
    require_same_shape(clean, noise, names="clean and noise")
    return noise - clean


def flow_matching_loss(
    pred: Float[Tensor, "b c t h w"],
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    *,
    weight: Float[Tensor, "#b #t"] | Float[Tensor, "#b #c #t #h #w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of a predicted velocity against noise - clean (BlockVid Eqs. 3-4).

    Args:
        pred: Velocity that the model predicts at `interpolate(clean, noise, level)`.
        clean: Clean latents.
        noise: The noise that was mixed in.
        weight: Weight of every frame, broadcast to [b t], or of every latent, broadcast to [b c t h w]. The result is
            the mean of the weighted errors. It is not divided by the sum of the weights, so if half of the frames have
            weight 0, the loss is half as large.

    Returns:
        A scalar, computed in float32 or better.
    """
    return mean_squared_error(pred, velocity(widened(clean), widened(noise)), weight=weight)


def mean_squared_error(
    pred: Float[Tensor, "b c t h w"],
    target: Float[Tensor, "b c t h w"],
    *,
    weight: Float[Tensor, "#b #t"] | Float[Tensor, "#b #c #t #h #w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over all elements of weight * (pred - target)^2, in float32 or better."""
    require_same_shape(pred, target, names="pred and its target")
    squared = (widened(pred) - target).square()
    if weight is not None:
        factor = weight if weight.ndim == pred.ndim else per_frame(weight, pred, name="weight")
        squared = squared * factor.to(squared.dtype)
    return squared.mean()


def widened(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The tensor in float32, or in its own dtype if that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def per_frame(values: Float[Tensor, "#b #t"], latents: Float[Tensor, "b c t h w"], *, name: str) -> Tensor:
    """Values per frame [b t], reshaped to broadcast to latents [b c t h w]."""
    batch, frames = latents.shape[0], latents.shape[2]
    if values.ndim != 2 or values.shape[0] not in (1, batch) or values.shape[1] not in (1, frames):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; expected [batch, frames] = [{batch}, {frames}], or 1 where it "
            f"is the same for all; reshape a scalar or one value per video to [batch, 1]"
        )
    return values[:, None, :, None, None]


def require_same_shape(first: Tensor, second: Tensor, *, names: str) -> None:
    """Raise ValueError if the shapes differ. Broadcasting would train on wrong pairs."""
    if first.shape != second.shape:
        raise ValueError(f"{names} have shapes {tuple(first.shape)} and {tuple(second.shape)}; expected one shape")
