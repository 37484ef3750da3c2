"""The paper's Tables 5 and 6 as experiments: what the memory and the losses of post-training are worth."""

from studies.ablation.config import AblationConfig, PostTraining, tiny_config
from studies.ablation.configurations import CONFIGURATIONS, TABLES, Configuration
from studies.ablation.run import check, run_ablation

__all__ = [
    "CONFIGURATIONS",
    "TABLES",
    "AblationConfig",
    "Configuration",
    "PostTraining",
    "check",
    "run_ablation",
    "tiny_config",
]
