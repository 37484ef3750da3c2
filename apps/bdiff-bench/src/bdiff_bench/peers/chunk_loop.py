"""The chunk loop of `bdiff sample`, without text encoder, decoder and files."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bdiff import defaults
from bdiff_bench.peers.config import PeersConfig
from bdiff_bench.peers.shapes import PeerShape, make_transformer
from bdiff_bench.peers.timed_video import ArrivalClock, TimedVideo
from bdiff_bench.peers.workload import Workload, cached_chunk
from bdiff_core import ChunkCondition, ChunkDiT, ModelConfig, generate
from kvbank import KVBank, Policy, Rolling
from noisesched import NoiseStream, denoising_grid

_RETRIEVAL_WIDTH = 384


class ChunkLoop:
    """Chunk after chunk with a memory."""

    def __init__(self, config: PeersConfig, shape: PeerShape, name: str) -> None:
        self._config, self._shape = config, shape
        self._policy = _policy(config, name)
        self._model = make_transformer(shape, device=config.device, dtype=getattr(torch, config.dtype))
        if config.compile:
            compile_blocks(self._model)

    @torch.no_grad()
    def sample(self, num_chunks: int, num_steps: int) -> TimedVideo:
        """Make one video of latents."""
        shape, device = self._shape, self._config.device
        bank = KVBank(policy=self._policy, rotate=self._model.rotate)
        plan = _prompts(shape.config, num_chunks, device=device)
        noise = NoiseStream(
            (shape.config.in_channels, shape.chunk.height, shape.chunk.width), shape.chunk.frames, seed=0
        )
        memory = _Watched(bank, ArrivalClock(device), num_chunks)
        for _ in generate(
            self._model, plan, memory=memory, noise=noise, grid=denoising_grid(num_steps, shift=shape.shift)
        ):
            pass
        work = Workload()
        for index, seen in enumerate(memory.context):
            work += cached_chunk(
                shape.config, shape.chunk, steps=num_steps, context=seen, remembered=index < num_chunks - 1
            )
        shown = sum(memory.context[-1]) / shape.config.num_layers
        return TimedVideo(arrivals=tuple(memory.clock.arrivals), work=work, shown=shown)


def _policy(config: PeersConfig, name: str) -> Policy:
    if name == "dense":
        return Rolling(config.context)
    return defaults.policy(name, coverage=config.coverage)


class _Watched:
    """A memory that notes when a chunk reaches it, because the chunk's latents are finished then.

    As in `bdiff sample`, the last chunk of a video is not remembered.
    """

    def __init__(self, bank: KVBank, clock: ArrivalClock, num_chunks: int) -> None:
        self._bank, self.clock, self._last = bank, clock, num_chunks - 1
        self.context: list[tuple[int, ...]] = []
        """Tokens of the past that each chunk saw, layer by layer."""

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        recall = self._bank.read(index, embedding=embedding)
        self.context.append(tuple(sum(spans) for spans in recall.spans))
        return recall

    def write(self, index: int, layers: Iterable[Any], *, embedding: Tensor | None) -> None:
        self.clock.note(index + 1)
        if index < self._last:
            self._bank.write(index, layers, embedding=embedding)

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        self._bank.prefetch(index, embedding=embedding)


def _prompts(config: ModelConfig, num_chunks: int, *, device: str) -> list[ChunkCondition]:
    """A random prompt for each chunk."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(num_chunks, config.text_length, config.text_dim, generator=generator)
    embedding = normalize(torch.randn(num_chunks, _RETRIEVAL_WIDTH, generator=generator), dim=1)
    text, embedding = text.to(device), embedding.to(device)
    return [
        ChunkCondition(index=index, text=text[index], negative=text[index], embedding=embedding[index])
        for index in range(num_chunks)
    ]


def compile_blocks(model: ChunkDiT) -> None:
    """Compile what a block does before and after attention; attention itself sees a longer past at every chunk."""
    for block in model.blocks:
        for name in ("project", "finish"):
            setattr(block, name, torch.compile(getattr(block, name)))
