"""The drift of a benchmark's videos as several models made them: the paper's Tables 2 and 3."""

from bdiff_bench.lvbench.config import LVBenchConfig
from bdiff_bench.lvbench.run import bench_lvbench, find_videos

__all__ = ["LVBenchConfig", "bench_lvbench", "find_videos"]
