"""Do true single takes score near zero on the metrics of drift, and do the metrics order planted drift rightly?"""

from studies.takes.run import TakesConfig, measure_takes, tiny_config

__all__ = ["TakesConfig", "measure_takes", "tiny_config"]
