"""How well a model samples stories whose truth is known."""

from bdiff_bench.world.config import WorldBenchConfig
from bdiff_bench.world.figures import world_table
from bdiff_bench.world.run import bench_world, check
from bdiff_bench.world.scores import clarity_curve, retrieval_share

__all__ = ["WorldBenchConfig", "bench_world", "check", "clarity_curve", "retrieval_share", "world_table"]
