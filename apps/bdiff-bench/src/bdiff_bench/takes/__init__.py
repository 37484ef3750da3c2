"""How well a model samples takes of every kind, under each memory."""

from bdiff_bench.takes.config import TakesBenchConfig
from bdiff_bench.takes.figures import takes_tables
from bdiff_bench.takes.run import bench_takes, check

__all__ = ["TakesBenchConfig", "bench_takes", "check", "takes_tables"]
