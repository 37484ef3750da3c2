"""Does the meter measure? Faults of known strength in films, and what each metric of drift makes of them."""

from studies.metric_sensitivity.run import SensitivityConfig, bench_sensitivity

__all__ = ["SensitivityConfig", "bench_sensitivity"]
