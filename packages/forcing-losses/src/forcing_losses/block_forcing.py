"""Block Forcing: velocities with a semantic reference as target (BlockVid section 3.3)."""

from jaxtyping import Float
from torch import Tensor

from forcing_losses.flow_matching import flow_matching_loss, mean_squared_error, require_same_shape, widened


def block_forcing_loss(
    pred: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    reference: Float[Tensor, "b c t h w"],
    *,
    gamma: float,
) -> Float[Tensor, ""]:
    """Mean squared error of a predicted velocity against noise - gamma * x_cond (BlockVid Eq. 5, exactly as written).

    This loss does not depend on the current chunk: with gamma = 1 its minimum is the velocity towards the reference.
    `block_forcing_objective` adds the fidelity part.

    Args:
        pred: Predicted velocity of the current chunk.
        noise: The noise that was mixed into the current chunk.
        reference: x_cond of `semantic_reference`. It is a target, so pass it without a gradient history.
        gamma: Weight of the reference in the target, in [0, 1].

    Returns:
        A scalar, computed in float32 or better.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is {gamma}; Eq. 5 expects a weight in [0, 1]")
    require_same_shape(noise, reference, names="noise and reference")
    return mean_squared_error(pred, widened(noise) - gamma * widened(reference))


def velocity_forcing_loss(
    pred: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    reference: Float[Tensor, "b c t h w"],
    *,
    gamma: float,
) -> Float[Tensor, ""]:
    """Velocity Forcing, a row of BlockVid's Table 6: the same as `block_forcing_loss`.

    The paper does not define this row. An earlier draft of the paper uses the name for Eq. 5. To train the row, add
    this loss to `flow_matching_loss`, or use `block_forcing_objective`, which is the sum.

    Args:
        pred: Predicted velocity of the current chunk.
        noise: The noise that was mixed into the current chunk.
        reference: x_cond of `semantic_reference`, without a gradient history.
        gamma: Weight of the reference in the target, in [0, 1].

    Returns:
        A scalar, computed in float32 or better.
    """
    return block_forcing_loss(pred, noise, reference, gamma=gamma)


def block_forcing_objective(
    pred: Float[Tensor, "b c t h w"],
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    reference: Float[Tensor, "b c t h w"] | None,
    *,
    gamma: float,
    weight: float,
) -> Float[Tensor, ""]:
    """Fidelity (Eqs. 2-4) + weight * semantic alignment (Eq. 5): the two complementary parts of section 3.3.

    Up to a constant that does not depend on `pred`, this is (1 + weight) times flow matching towards
    (clean + weight * gamma * reference) / (1 + weight). So it moves the generated picture towards the reference.

    Args:
        pred: Predicted velocity of the current chunk.
        clean: Clean latents of the current chunk.
        noise: The noise that was mixed in.
        reference: x_cond of `semantic_reference`; None for a chunk without past chunks, which leaves only fidelity.
        gamma: Weight of the reference in the target of Eq. 5, in [0, 1].
        weight: Weight of Eq. 5, not negative; 0 is plain flow matching.

    Returns:
        A scalar, computed in float32 or better.
    """
    if not weight >= 0:
        raise ValueError(f"weight is {weight}; expected 0 (plain flow matching) or more")
    fidelity = flow_matching_loss(pred, clean, noise)
    if reference is None:
        return fidelity
    return fidelity + weight * block_forcing_loss(pred, noise, reference, gamma=gamma)
