"""Do the metrics measure? Faults of known strength in videos, and how each metric of drift answers to them."""

from studies.metric_sensitivity.clips import check_height, footage_path
from studies.metric_sensitivity.run import SensitivityConfig, measure_sensitivity, tiny_config

__all__ = ["SensitivityConfig", "check_height", "footage_path", "measure_sensitivity", "tiny_config"]
