"""What the memory takes of a chunk's time: reading, laying out and writing, timed from outside the loop."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from bdiff.run.loading import Parts
from bdiff.run.sample import generate_chunks, open_memory
from bdiff.run.state import RunState
from bdiff_core import LayerKV, prepare_context
from kvbank import KVBank


class Stopwatch:
    """A bank that times itself, and the layout of what it gives.

    Args:
        bank: The bank.
        parts: What films.
    """

    def __init__(self, bank: KVBank, parts: Parts) -> None:
        self._bank, self._parts = bank, parts
        self.seconds: dict[str, list[float]] = {"read": [], "layout": [], "write": []}
        """By chunk."""
        self.aside = 0.0
        """Seconds of work that the film would not have needed."""

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        """Recall, and lay it out once more than the loop does."""
        started = time.perf_counter()
        recall = self._bank.read(index, embedding=embedding)
        self.seconds["read"].append(time.perf_counter() - started)
        sampling, model = self._parts.sampling, self._parts.model
        stride = self._parts.vae.spatial_stride
        tokens = model.config.num_tokens(sampling.latent_frames, sampling.height // stride, sampling.width // stride)
        started = time.perf_counter()
        how = {"index": index, "frames_per_chunk": sampling.latent_frames, "reserve": tokens}
        prepare_context(recall, model=model, **how)
        self.seconds["layout"].append(time.perf_counter() - started)
        self.aside += self.seconds["layout"][-1]
        return recall

    def write(self, index: int, layers: Iterable[LayerKV], *, embedding: Tensor | None) -> None:
        """Write; the time in which the model makes the layers is not the bank's."""
        made = 0.0

        def waited() -> Iterator[LayerKV]:
            nonlocal made
            left = iter(layers)
            while True:
                started = time.perf_counter()
                layer = next(left, None)
                made += time.perf_counter() - started
                if layer is None:
                    return
                yield layer

        started = time.perf_counter()
        self._bank.write(index, waited(), embedding=embedding)
        self.seconds["write"].append(time.perf_counter() - started - made)

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        """As the bank."""
        self._bank.prefetch(index, embedding=embedding)


def measure_overhead(parts: Parts, *, num_chunks: int, settled: int = 4) -> dict[str, Any]:
    """Seconds of the memory and of whole chunks, decoded, over a film's chunks from `settled` on.

    The bank is that of `bdiff sample`: in a folder, with a host budget.
    """
    with tempfile.TemporaryDirectory() as folder:
        bank = open_memory(parts, RunState(Path(folder)))
        watch, whole = Stopwatch(bank, parts), []
        film = dataclasses.replace(parts, plan=parts.plan[:num_chunks], bank=cast(KVBank, watch))
        started, aside = time.perf_counter(), 0.0
        for _ in generate_chunks(film):
            now = time.perf_counter()
            whole.append(now - started - (watch.aside - aside))
            started, aside = time.perf_counter(), watch.aside
        bank.close()
    parts_of = {name: each[settled:] for name, each in watch.seconds.items()}
    together = [sum(each) for each in zip(*parts_of.values(), strict=True)]
    return {
        "chunks": len(together),
        "seconds_a_chunk": statistics.median(whole[settled:]),
        "seconds": {name: statistics.median(each) for name, each in parts_of.items()},
        "share": statistics.median(part / all_ for part, all_ in zip(together, whole[settled:], strict=True)),
    }
