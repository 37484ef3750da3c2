"""What a memory is worth: the colours of places that a film comes back to, against the world's truth."""

from bdiff_bench.memory.arms import Arm, parse_arm
from bdiff_bench.memory.config import MemoryBenchConfig
from bdiff_bench.memory.run import bench_memory, check

__all__ = ["Arm", "MemoryBenchConfig", "bench_memory", "check", "parse_arm"]
