"""Time of a training step beside the machine's matrix products."""

from studies.training_step.run import TrainingStepConfig, measure_training_step, tiny_config

__all__ = ["TrainingStepConfig", "measure_training_step", "tiny_config"]
