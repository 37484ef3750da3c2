"""The semantic reference x_cond: the mean of the chunks with the most similar prompts (BlockVid section 3.3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from forcing_losses.flow_matching import widened


def semantic_reference(
    history: Sequence[Float[Tensor, "*b c _ h w"]] | Float[Tensor, "*b chunks c t h w"],
    similarity: Float[Tensor, "*videos chunks"] | Sequence[float | int],
    *,
    top_l: int,
    num_frames: int,
) -> Float[Tensor, "*b c {num_frames} h w"] | None:
    """Mean of the `top_l` most similar past chunks, each resampled to the current chunk's length (x_cond in Eq. 5).

    All past chunks are candidates, also the two most recent ones. Resampling is linear in time and keeps the first and
    the last frame. If the current chunk has one frame, it corresponds to the middle of the past chunk.

    Args:
        history: Clean latents [b c t h w] of every past chunk, oldest first. They may differ in length t. Chunks of the
            same length may be one tensor [b chunks c t h w]. A single video may have no batch axis.
        similarity: Similarity of the current prompt to the prompt of each past chunk: [b chunks], or [chunks] if it is
            the same for all videos of the batch. Of equally similar chunks the newest is taken.
        top_l: Number of chunks in the mean, at least 1. If there are fewer past chunks, all of them are used.
        num_frames: Length t of the current chunk.

    Returns:
        The reference in the dtype of the history; None if there is no past chunk.
    """
    chunks, similarity, single = _batched(history, similarity)
    _check(chunks, similarity, top_l, num_frames)
    if not chunks:
        return None
    chosen = _newest_of_the_most_similar(similarity, min(top_l, len(chunks)))
    batch, channels, _, height, width = chunks[0].shape
    total = widened(chunks[0]).new_zeros(batch, channels, num_frames, height, width)
    for index in chosen.unique().tolist():
        videos = (chosen == index).any(dim=1).to(total.device)
        total[videos] += _resample_time(widened(chunks[index][videos]), num_frames)
    reference = (total / chosen.shape[1]).to(chunks[0].dtype)
    return reference[0] if single else reference


def _batched(
    history: Sequence[Tensor] | Tensor, similarity: Tensor | Sequence[float | int]
) -> tuple[list[Tensor], Float[Tensor, "b chunks"], bool]:
    """Chunks and similarities with a batch axis, and whether the caller gave none."""
    if not isinstance(similarity, Tensor):
        similarity = torch.tensor(similarity, dtype=torch.float64)
    if isinstance(history, Tensor):
        if history.ndim != similarity.ndim + 4 or history.shape[: similarity.ndim] != similarity.shape:
            raise ValueError(
                f"history is one tensor {tuple(history.shape)} and similarity {tuple(similarity.shape)}; expected "
                "[b chunks c t h w] and [b chunks], or without the batch axis in both"
            )
        history = history.unbind(similarity.ndim - 1)
    single = bool(history) and all(chunk.ndim == 4 for chunk in history)
    chunks = [chunk[None] for chunk in history] if single else list(history)
    if similarity.ndim == 1:
        similarity = similarity.expand(chunks[0].shape[0] if chunks else 1, -1)
    return chunks, similarity, single


def _newest_of_the_most_similar(similarity: Float[Tensor, "b chunks"], count: int) -> Int64[Tensor, "b count"]:
    # The past is reversed, so the stable sort puts the newest of equally similar chunks first.
    order = similarity.flip(1).sort(dim=1, descending=True, stable=True).indices[:, :count]
    return similarity.shape[1] - 1 - order


def _resample_time(latents: Float[Tensor, "b c t h w"], num_frames: int) -> Float[Tensor, "b c {num_frames} h w"]:
    length = latents.shape[2]
    if length == num_frames:
        return latents
    last = length - 1
    if num_frames == 1:
        position = torch.tensor([last / 2], dtype=torch.float64)
    else:
        position = torch.linspace(0, last, num_frames, dtype=torch.float64)
    before = position.floor().long().clamp(max=last)
    after = (before + 1).clamp(max=last)
    share = (position - before).to(latents)[:, None, None]
    return torch.lerp(latents[:, :, before], latents[:, :, after], share)


def _check(history: Sequence[Tensor], similarity: Tensor, top_l: int, num_frames: int) -> None:
    if top_l < 1:
        raise ValueError(f"top_l is {top_l}; expected at least 1 (for no reference, leave Eq. 5 out of the objective)")
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; a chunk has at least 1 frame")
    if similarity.ndim != 2 or similarity.shape[1] != len(history):
        raise ValueError(
            f"similarity has shape {tuple(similarity.shape)} for {len(history)} past chunks; expected [batch, chunks]"
        )
    if any(chunk.ndim != 5 for chunk in history):
        shapes = [tuple(chunk.shape) for chunk in history]
        raise ValueError(f"past chunks have shapes {shapes}; expected [b c t h w] of each, or [c t h w] of one video")
    sizes = {(chunk.shape[0], chunk.shape[1], *chunk.shape[3:]) for chunk in history}
    if len(sizes) > 1 or any(batch != similarity.shape[0] for batch, *_ in sizes):
        raise ValueError(
            f"past chunks have sizes [b c h w] of {sorted(sizes)} and similarity a batch of {similarity.shape[0]}; "
            "chunks may differ in their number of frames only"
        )
