"""The chunks that a sampler yields, made of clean latents."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from bdiff_core.generate import Chunk
from bdiff_core.plan import ChunkCondition
from bdiff_core.protocols import Decoder


def finished(
    chunks: Iterable[ChunkCondition], latents: Iterable[Tensor], *, decoder: Decoder | None, state: Any
) -> Iterator[Chunk]:
    """Decode chunk after chunk, in order."""
    for chunk, x in zip(chunks, latents, strict=True):
        frames = None
        if decoder is not None:
            frames, state = decoder.decode(x, state)
        yield Chunk(index=chunk.index, latents=x, frames=frames, recall=None, decoder_state=state)
