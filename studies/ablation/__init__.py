"""The paper's Tables 5 and 6 as experiments: what the memory and what the losses of post-training are worth."""

from studies.ablation.cells import CELLS, TABLES, Cell
from studies.ablation.config import AblationConfig, PostTraining, tiny_config
from studies.ablation.run import bench_ablation, check

__all__ = ["CELLS", "TABLES", "AblationConfig", "Cell", "PostTraining", "bench_ablation", "check", "tiny_config"]
