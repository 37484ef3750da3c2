"""An hour of video: time and memory of every chunk."""

from studies.hour.run import HourConfig, measure_hour

__all__ = ["HourConfig", "measure_hour"]
