"""What measuring drift costs: time against the video's own length, memory, and the straightforward way beside it."""

from studies.metric_cost.run import MeterBenchConfig, bench_meter

__all__ = ["MeterBenchConfig", "bench_meter"]
