"""How fast keys and values of a large model are read, beside a plain copy in memory and a plain read of a file."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bdiff_bench.harness import anonymous_bytes, quartiles
from kvbank import Full, Int4, Int8, KVBank, LayerKV, TieredStore

PAGE_CACHE, DEVICE = "page cache", "device"
"""Names of reads from the system's cache of files, and from the disk itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KVShape:
    """Sizes of a model's keys and values; the defaults are those of Wan 2.1 1.3B with 3 latent frames."""

    num_layers: int = 30
    num_heads: int = 12
    head_width: int = 128
    num_tokens: int = 4680
    """Tokens of a chunk."""
    num_chunks: int = 4
    """Chunks that a read shows, as many as with the default policy."""
    dtype: torch.dtype = torch.bfloat16

    @property
    def num_bytes(self) -> int:
        """Bytes of the keys and values of a read."""
        numbers = self.num_layers * self.num_heads * self.head_width * self.num_tokens * self.num_chunks
        return 2 * numbers * self.dtype.itemsize

    def chunk(self, index: int) -> Iterator[LayerKV]:
        """Random layers of a chunk, in the memory layout of a model's layers."""
        generator = torch.Generator().manual_seed(index)
        position = torch.zeros(self.num_tokens, 3, dtype=torch.int64)
        for _ in range(self.num_layers):
            shape = (1, self.num_tokens, self.num_heads, self.head_width)
            key, value = (torch.empty(shape, dtype=self.dtype).uniform_(-1, 1, generator=generator) for _ in range(2))
            yield LayerKV(key.transpose(1, 2), value.transpose(1, 2), position)


def measure_throughput(shape: KVShape, *, repeats: int, folder: Path) -> dict[str, Any]:
    """Gigabytes a second of reads from host memory and from disk, each measured in turns with a plain copy or read.

    Args:
        shape: What is held and read.
        repeats: How often each is measured, after one time to warm up.
        folder: A folder on the disk that is measured; what is written there is removed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="kv-bench-") as place:
        disk = _disk(shape, repeats, Path(place))
    return {"read_bytes": shape.num_bytes, "host": _host(shape, repeats), "disk": disk}


def measure_peak(shape: KVShape) -> dict[str, Any]:
    """Memory of this process while a packed bank is read, beside what the read returns; run it in a fresh process."""
    found = {}
    for form in (Int8(), Int4()):
        bank = KVBank(policy=Full(), quantization=form)
        for index in range(shape.num_chunks):
            bank.write(index, shape.chunk(index), embedding=None)
        before = anonymous_bytes()
        peak = _reset_peak()
        recall = bank.read(shape.num_chunks, embedding=None)
        returned = sum(layer.nbytes for layer in recall.layers)
        found[type(form).__name__.lower()] = {
            "held_bytes": bank.nbytes,
            "returned_bytes": returned,
            "peak_bytes": peak() - before,
            "beyond_returned": (peak() - before - returned) / returned,
        }
        del recall, bank
    return found


def _host(shape: KVShape, repeats: int) -> dict[str, Any]:
    bank = KVBank(policy=Full(), store=TieredStore(device_budget=0, num_recent=0))
    writes = _write(bank, shape)
    source = torch.empty(min(shape.num_bytes, 1 << 30), dtype=torch.uint8).fill_(1)
    target = torch.empty_like(source).fill_(2)
    speeds = _in_turns(
        repeats,
        memcpy=(lambda: target.copy_(source), source.nbytes),
        read=(lambda: bank.read(shape.num_chunks, embedding=None), shape.num_bytes),
    )
    return _compared(speeds, "memcpy") | {"write": writes}


def _disk(shape: KVShape, repeats: int, folder: Path) -> dict[str, Any]:
    store = TieredStore(device_budget=0, host_budget=0, num_recent=0)
    bank = KVBank(policy=Full(), store=store).open(folder / "bank")
    writes = _write(bank, shape)
    files = sorted((folder / "bank" / "segments").iterdir())
    first = _speed(lambda: bank.read(shape.num_chunks, embedding=None), shape.num_bytes)
    buffer = torch.empty(max(file.stat().st_size for file in files), dtype=torch.uint8).fill_(0)
    size = sum(file.stat().st_size for file in files)

    def plain() -> None:
        for file in files:
            with file.open("rb", buffering=0) as opened:
                view = memoryview(buffer.numpy().data)
                while view and (count := opened.readinto(view)):
                    view = view[count:]

    def read() -> None:
        bank.read(shape.num_chunks, embedding=None)

    warm = _in_turns(repeats, file=(plain, size), read=(read, shape.num_bytes))
    result = {"first_read": first, PAGE_CACHE: _compared(warm, "file"), "write": writes}
    if hasattr(os, "posix_fadvise"):
        cold = _in_turns(repeats, before=lambda: _forget(files), file=(plain, size), read=(read, shape.num_bytes))
        result[DEVICE] = _compared(cold, "file")
    bank.close()
    return result


def _write(bank: KVBank, shape: KVShape) -> dict[str, float]:
    """Gigabytes a second of writes; making the layers does not count."""
    speeds = []
    for index in range(shape.num_chunks):
        layers = list(shape.chunk(index))
        nbytes = shape.num_bytes / shape.num_chunks
        speeds.append(_speed(partial(bank.write, index, layers, embedding=None), nbytes))
    return quartiles(speeds)


def _in_turns(
    repeats: int, *, before: Callable[[], None] = lambda: None, **calls: tuple[Callable[[], Any], float]
) -> dict[str, list[float]]:
    """Gigabytes a second of each call, one after the other, so that a busy machine slows all of them."""
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, (call, nbytes) in calls.items():
            before()
            speeds[name].append(_speed(call, nbytes))
    return {name: each[1:] for name, each in speeds.items()}


def _speed(call: Callable[[], Any], nbytes: float) -> float:
    started = time.perf_counter()
    call()
    return nbytes / (time.perf_counter() - started) / 1e9


def _compared(speeds: dict[str, list[float]], to: str) -> dict[str, Any]:
    found: dict[str, Any] = {name: quartiles(each) for name, each in speeds.items()}
    return found | {"read_over_plain": found["read"]["median"] / found[to]["median"]}


def _forget(files: list[Path]) -> None:
    """Make the system drop its cache of files, so that they are read from the device."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _reset_peak() -> Callable[[], int]:
    """Reset the peak memory of this process; the function that is returned gives the peak since then."""
    files = _status("RssFile") + _status("RssShmem")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return lambda: _status("VmHWM") - files


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
