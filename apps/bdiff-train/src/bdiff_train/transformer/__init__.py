"""Training of the transformer, and sampling of stories whose truth is known.

Example:
    >>> files = Files(out=Path("runs/model"), vae=Path("runs/vae/vae.safetensors"), stories=Path("runs/stories"))
    >>> config = replace(RECIPES["default"](files), max_steps=1000)
    >>> train_model(config)
"""

from bdiff_train.transformer import recipes
from bdiff_train.transformer.adversarial import (
    AdversarialConfig,
    AdversarialObjective,
    DiscriminatorObjective,
    DistillationConfig,
    DistillationObjective,
    GeneratorAndCritic,
)
from bdiff_train.transformer.batches import Batch, BatchConfig, make_batch
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.loss import BlockForcingConfig
from bdiff_train.transformer.recipes import RECIPES, Files
from bdiff_train.transformer.rollouts import RolloutConfig
from bdiff_train.transformer.story_sampler import FIRST_STORY, SampledStory, StorySampler
from bdiff_train.transformer.task import ModelTask
from bdiff_train.transformer.train import orthogonal_matrices, run_config, train_model, training_data
from bdiff_train.transformer.training_data import TrainingData

__all__ = [  # noqa: RUF022 (grouped by use)
    # a training
    "ModelTrainConfig",
    "train_model",
    "RECIPES",
    "Files",
    "recipes",
    # its parts
    "Batch",
    "BatchConfig",
    "BlockForcingConfig",
    "RolloutConfig",
    "AdversarialConfig",
    "DistillationConfig",
    "make_batch",
    # critics
    "AdversarialObjective",
    "DiscriminatorObjective",
    "DistillationObjective",
    "GeneratorAndCritic",
    # what `fit` gets
    "ModelTask",
    "TrainingData",
    "orthogonal_matrices",
    "run_config",
    "training_data",
    # sampling of stories
    "FIRST_STORY",
    "SampledStory",
    "StorySampler",
]
