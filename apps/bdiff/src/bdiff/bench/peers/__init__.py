"""How fast the chunk loop is beside the pipelines of diffusers: same weights, steps, frames and context, in one run."""

from bdiff.bench.peers.config import PeersConfig
from bdiff.bench.peers.run import bench_peers, check

__all__ = ["PeersConfig", "bench_peers", "check"]
