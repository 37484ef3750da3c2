"""What the memory costs: time, exactness, memory."""

from studies.memory_cost.run import MemoryCostConfig, measure_memory_cost, tiny_config

__all__ = ["MemoryCostConfig", "measure_memory_cost", "tiny_config"]
