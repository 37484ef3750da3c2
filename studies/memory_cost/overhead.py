"""The memory's share of a chunk's time: reading, laying out and writing, timed from outside the loop."""

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from bdiff.run import LoadedRun, RunState, generate_chunks, recover
from bdiff_core import LayerKV, Memory, prepare_context


class TimedMemory:
    """A memory that times a bank, and the layout of what the bank recalls.

    Args:
        bank: The bank.
        run: The run that is sampled.
    """

    def __init__(self, bank: Memory, run: LoadedRun) -> None:
        self._bank, self._run = bank, run
        self.seconds: dict[str, list[float]] = {"read": [], "layout": [], "write": []}
        """Seconds of each chunk."""
        self.aside = 0.0
        """Seconds of work that the video would not have needed."""

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        """Recall, and lay it out once more than the loop does."""
        started = time.perf_counter()
        recall = self._bank.read(index, embedding=embedding)
        self.seconds["read"].append(time.perf_counter() - started)
        sampling, model = self._run.sampling, self._run.model
        stride = self._run.vae.spatial_stride
        tokens = model.config.num_tokens(sampling.latent_frames, sampling.height // stride, sampling.width // stride)
        started = time.perf_counter()
        prepare_context(recall, model=model, index=index, frames_per_chunk=sampling.latent_frames, reserve=tokens)
        self.seconds["layout"].append(time.perf_counter() - started)
        self.aside += self.seconds["layout"][-1]
        return recall

    def write(self, index: int, layers: Iterable[LayerKV], *, embedding: Tensor | None) -> None:
        """Write, and leave out the time in which the model makes the layers."""
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
        """Prefetch as the bank does."""
        self._bank.prefetch(index, embedding=embedding)


def measure_overhead(run: LoadedRun, *, num_chunks: int, settled: int = 4) -> dict[str, Any]:
    """Seconds of the memory and of whole chunks, decoded, over the chunks of a video from ``settled`` on.

    The bank is that of `bdiff sample`: in a folder, with a host budget.
    """
    with tempfile.TemporaryDirectory() as folder:
        bank = recover(run, RunState(Path(folder))).memory
        timed, whole = TimedMemory(bank, run), []
        started, aside = time.perf_counter(), 0.0
        for _ in generate_chunks(run, timed, last=num_chunks):
            now = time.perf_counter()
            whole.append(now - started - (timed.aside - aside))
            started, aside = time.perf_counter(), timed.aside
        bank.close()
    parts = {name: each[settled:] for name, each in timed.seconds.items()}
    together = [sum(each) for each in zip(*parts.values(), strict=True)]
    return {
        "chunks": len(together),
        "seconds_a_chunk": statistics.median(whole[settled:]),
        "seconds": {name: statistics.median(each) for name, each in parts.items()},
        "share": statistics.median(part / all_ for part, all_ in zip(together, whole[settled:], strict=True)),
    }
