"""How well a memory works: the colours of places that a video comes back to, compared with the world's truth.

Example:
    >>> from pathlib import Path
    >>> from bdiff_bench.memory import MemoryBenchConfig, bench_memory
    >>> bench_memory(MemoryBenchConfig(out=Path("runs/memory")))  # doctest: +SKIP
"""

from bdiff_bench.memory.arms import Arm, parse_arm
from bdiff_bench.memory.colours import at_places
from bdiff_bench.memory.config import MemoryBenchConfig
from bdiff_bench.memory.measures import given_chunks, measure, token_shares
from bdiff_bench.memory.page import memory_parts
from bdiff_bench.memory.run import bench_memory, check
from bdiff_bench.memory.visits import returns

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # the bench
    "Arm",
    "MemoryBenchConfig",
    "bench_memory",
    "check",
    "memory_parts",
    "parse_arm",
    # what it measures, for studies
    "at_places",
    "given_chunks",
    "measure",
    "returns",
    "token_shares",
]
