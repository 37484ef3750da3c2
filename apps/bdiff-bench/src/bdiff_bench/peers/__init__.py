"""How fast the chunk loop is beside the pipelines of diffusers, with the same weights, steps, frames and context."""

from bdiff_bench.peers.config import PeersConfig
from bdiff_bench.peers.run import bench_peers, check

__all__ = ["PeersConfig", "bench_peers", "check"]
