"""The work of a video: operations that each method needs, and bytes that its passes must read.

Matrix products and attention as `bdiff_core.costs` counts them. Not counted are padding, attention that is
masked, and the choice of what a memory keeps: they lower the share of the machine's rate that is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bdiff_core import ModelConfig, costs

_COMPRESSED = 4
"""Side, in latents, of the tokens in which AnyFlow sees distant chunks."""
FULL_CHUNKS = 3
"""Chunks that AnyFlow sees whole, the current one included: its default, and that of its checkpoints."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of one video or of a part of it."""

    flops: int = 0
    """Operations of matrix products and attention."""
    passes: int = 0
    """Passes of the transformer; each reads all of its weights."""
    tokens_read: int = 0
    """Keys and values of the past that the passes read, summed over layers."""

    def __add__(self, other: "Workload") -> "Workload":
        return Workload(self.flops + other.flops, self.passes + other.passes, self.tokens_read + other.tokens_read)

    def __mul__(self, times: int) -> "Workload":
        return Workload(self.flops * times, self.passes * times, self.tokens_read * times)


def cached_chunk(
    config: ModelConfig, chunk: costs.ChunkShape, *, steps: int, context: Sequence[int], remembered: bool
) -> Workload:
    """The work of our loop on one chunk: its steps and, if it is remembered, the pass that makes keys and values.

    Args:
        config: The transformer.
        chunk: Shape of a chunk.
        steps: Denoising steps.
        context: Tokens of the past in each layer; empty without a past.
        remembered: Whether a later chunk may see it.
    """
    tokens, layers = config.num_tokens(chunk.frames, chunk.height, chunk.width), config.num_layers
    seen = tuple(context) or (0,) * layers
    whole = costs.pass_flops(config, chunk) + 4 * tokens * config.dim * sum(seen)
    total = Workload(whole, 1, sum(seen)) * steps + Workload(flops=costs.text_flops(config))
    if not remembered:
        return total
    # The pass for keys and values computes neither the last block's attention and feed-forward nor the head.
    weights = config.dim**2 + 2 * config.dim**2 + 2 * config.dim * config.ffn_dim
    attended = tokens + seen[-1] + config.text_length
    unused = 2 * tokens * weights + 4 * tokens * attended * config.dim + 2 * tokens * config.dim * config.patch_dim
    return total + Workload(whole - unused, 1, sum(seen[:-1]))


def windows_work(config: ModelConfig, chunk: costs.ChunkShape, *, rows: Sequence[int], lag: int) -> Workload:
    """The work of diffusion forcing: every row of steps encodes a whole window, with its past, and the text.

    Args:
        config: The transformer.
        chunk: Shape of a chunk.
        rows: Chunks in each row of steps.
        lag: 0: all chunks of a window attend to each other. Otherwise a chunk sees itself and earlier ones.
    """
    tokens, total = config.num_tokens(chunk.frames, chunk.height, chunk.width), 0
    for chunks in rows:
        masked = tokens**2 * chunks * (chunks - 1) // 2 if lag else 0
        window = replace(chunk, frames=chunks * chunk.frames)
        total += (
            costs.pass_flops(config, window) + costs.text_flops(config) - 4 * masked * config.dim * config.num_layers
        )
    return Workload(total, len(rows))


def anyflow_work(config: ModelConfig, chunk: costs.ChunkShape, *, steps: int, num_chunks: int) -> Workload:
    """The work of AnyFlow: steps with a cache and, after each chunk but the last, a pass that fills it anew."""
    total = Workload()
    for index in range(num_chunks):
        whole, distant = _anyflow_past(config, chunk, index)
        past = whole + distant
        one = (
            costs.pass_flops(config, chunk, context_tokens=past)
            + costs.text_flops(config)
            + _second_time(config, chunk.frames)
        )
        total += Workload(one, 1, past * config.num_layers) * steps
        if index < num_chunks - 1:
            total += Workload(_anyflow_cache(config, chunk, index + 1), 1)
    return total


def anyflow_shown(config: ModelConfig, chunk: costs.ChunkShape, index: int) -> int:
    """Tokens of the past that a chunk sees."""
    return sum(_anyflow_past(config, chunk, index))


def _anyflow_past(config: ModelConfig, chunk: costs.ChunkShape, index: int) -> tuple[int, int]:
    """Tokens of the past of a chunk: those of recent chunks, which are whole, and those of distant ones."""
    near = min(index, FULL_CHUNKS - 1)
    return near * config.num_tokens(chunk.frames, chunk.height, chunk.width), (index - near) * _distant_tokens(chunk)


def _distant_tokens(chunk: costs.ChunkShape) -> int:
    return chunk.frames * (chunk.height // _COMPRESSED) * (chunk.width // _COMPRESSED)


def _anyflow_cache(config: ModelConfig, chunk: costs.ChunkShape, num_chunks: int) -> int:
    """Operations of the pass over so many finished chunks: all layers, without the head."""
    tokens = config.num_tokens(chunk.frames, chunk.height, chunk.width)
    near = min(num_chunks, FULL_CHUNKS - 1)
    sizes = [_distant_tokens(chunk)] * (num_chunks - near) + [tokens] * near
    total, dim, past = 0, config.dim, 0
    weights = 6 * dim**2 + 2 * dim * config.ffn_dim
    for size in sizes:
        past += size
        total += config.num_layers * (2 * size * weights + 4 * size * (past + config.text_length) * dim)
    pixels = config.in_channels * config.patch_size[1] * config.patch_size[2]
    total += 2 * dim * (near * tokens * pixels)
    total += 2 * dim * ((num_chunks - near) * _distant_tokens(chunk) * config.in_channels * _COMPRESSED**2)
    frames = num_chunks * chunk.frames
    time = 2 * frames * (config.freq_dim * dim + 7 * dim**2) + _second_time(config, frames)
    return total + time + costs.text_flops(config)


def _second_time(config: ModelConfig, frames: int) -> int:
    """Operations for a second level, which AnyFlow gives its model: the level that a step goes to."""
    return 2 * frames * (config.freq_dim * config.dim + config.dim**2)
