"""What measuring drift costs: time beside the video's length, memory, and the straightforward way."""

from studies.metric_cost.run import MetricCostConfig, measure_metric_cost, tiny_config

__all__ = ["MetricCostConfig", "measure_metric_cost", "tiny_config"]
