"""Memory for the tensors that reads return, used again when nobody holds them."""

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
    """Sizes, dtype and device of a tensor to be made."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.sizes) * self.dtype.itemsize

    @property
    def on_cpu(self) -> bool:
        """Whether its memory comes from `ReadBuffers`, not from the allocator of a device."""
        return self.device.type == "cpu"


class ReadBuffers:
    """Makes the tensors of reads. On the CPU they take the memory of an earlier read that nobody holds any more.

    New memory is slow on the CPU: the system hands out pages one by one and clears them, which takes several times as
    long as filling them. Devices whose allocator keeps memory, as CUDA's does, have no such cost.
    """

    def __init__(self) -> None:
        self._spare: deque[mmap.mmap] = deque(maxlen=1)

    def make(self, shapes: Sequence[Shape]) -> list[Tensor]:
        """Tensors of these shapes, not filled; their memory is free again when the last of them is gone."""
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
        """Memory of at least this size; memory that was used before is at most about twice as large."""
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
    """Bytes that it takes in the buffer, rounded up so that the next tensor is aligned."""
    return -(-shape.nbytes // _ALIGNMENT) * _ALIGNMENT if shape.on_cpu else 0
