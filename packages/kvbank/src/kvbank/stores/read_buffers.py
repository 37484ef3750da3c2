"""Memory for what reads return, used again and again."""

import math
import mmap
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 64
_HUGE_PAGE = 1 << 21


class Shape(NamedTuple):
    """What a tensor is to be like."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return math.prod(self.sizes) * self.dtype.itemsize

    @property
    def on_cpu(self) -> bool:
        """Whether it takes memory of ours."""
        return self.device.type == "cpu"


class ReadBuffers:
    """Makes the tensors of one read after the other; those on the CPU take the memory of a read that nobody holds.

    The system hands out pages one by one and clears them, which takes several times as long as to fill them. A device
    with an allocator of its own, as CUDA's, has no such cost.
    """

    def __init__(self) -> None:
        self._spare: deque[mmap.mmap] = deque(maxlen=1)

    def make(self, shapes: Sequence[Shape]) -> list[Tensor]:
        """Tensors of any content that are used together; their memory is free when the last of them is gone."""
        starts = list(accumulate((_padded(shape) for shape in shapes), initial=0))
        memory = self._memory(starts[-1])
        lease = np.frombuffer(memory, dtype=np.uint8)  # every tensor holds it, so that its end is that of them all
        weakref.finalize(lease, self._spare.append, memory).atexit = False
        return [
            torch.from_numpy(lease[start : start + shape.nbytes]).view(shape.dtype).view(shape.sizes)
            if shape.on_cpu
            else torch.empty(shape.sizes, dtype=shape.dtype, device=shape.device)
            for shape, start in zip(shapes, starts, strict=False)
        ]

    def _memory(self, size: int) -> mmap.mmap:
        """At least this many bytes, and not more than twice as many if they were used before."""
        spare = self._spare.pop() if self._spare else None
        if spare is not None and size <= len(spare) <= 2 * size + mmap.PAGESIZE:
            return spare
        size += size // 8 + 1  # the next read may be a bit larger; what is never touched costs nothing
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if not hasattr(mmap, "MAP_ANONYMOUS"):
            return mmap.mmap(-1, size)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return memory


def _padded(shape: Shape) -> int:
    """Bytes of ours that it takes, so that the next one is aligned."""
    return -(-shape.nbytes // _ALIGNMENT) * _ALIGNMENT if shape.on_cpu else 0
