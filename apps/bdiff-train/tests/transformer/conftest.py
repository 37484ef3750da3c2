"""Small stories, a small transformer, and objectives with a critic."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bdiff_core import ChunkDiT, ModelConfig
from bdiff_train.data import StorySet
from bdiff_train.transformer import (
    RECIPES,
    AdversarialConfig,
    BatchConfig,
    DiscriminatorObjective,
    DistillationConfig,
    DistillationObjective,
    Files,
    ModelTask,
    RolloutConfig,
    TrainingData,
)
from kvbank import SemanticSparse
from noisesched import chunk_levels

CHUNKS, FRAMES, TOKENS = 5, 2, 8
TINY = ModelConfig(
    dim=24, num_layers=1, num_heads=2, ffn_dim=24, in_channels=4, out_channels=4, text_dim=6, text_length=3
)
FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))
ROLLOUT = RolloutConfig(chunks=3, given=1, steps=2)


def _small_model(seed=0):
    torch.manual_seed(seed)
    model = ChunkDiT(TINY)
    nn.init.normal_(model.head.project.weight, std=0.2)
    return model


def _make_data():
    generator = torch.Generator().manual_seed(0)
    stories = StorySet(
        latents=torch.randn(3, CHUNKS * FRAMES, 4, 4, 4, generator=generator),
        caption=torch.arange(CHUNKS).remainder(2).expand(3, -1),
        tokens=torch.randn(2, 3, 6, generator=generator),
        embedding=torch.eye(2),
    )
    batch = BatchConfig(stories=2, copies=2)
    return TrainingData(
        stories=stories,
        levels=chunk_levels(CHUNKS, level_min=0.5, level_max=0.8),
        policies=(SemanticSparse(),),
        batch=batch,
        tokens_per_chunk=TOKENS,
        bfloat16=False,
    )


def _make_task(self_forcing, objective, **changes):
    plain = RECIPES["default"](FILES)
    config = replace(plain, self_forcing=self_forcing, batch=objective.data.batch, **changes)
    return ModelTask(config=config, data=objective.data, objective=objective)


def _objectives():
    data, teacher = _make_data(), _small_model(7).requires_grad_(False)
    adversarial = AdversarialConfig(rollout=ROLLOUT, width=16, layers=1)
    yield (
        DiscriminatorObjective.make_pair(_small_model(), adversarial),
        DiscriminatorObjective(config=adversarial, data=data),
    )
    for score in ("dmd", "sid"):
        distillation = DistillationConfig(rollout=ROLLOUT, score=score, critic_steps=1)
        objective = DistillationObjective(config=distillation, data=data, teacher=teacher)
        yield DistillationObjective.make_pair(_small_model(), teacher), objective


@pytest.fixture
def small_model():
    """Makes a small transformer of a seed."""
    return _small_model


@pytest.fixture
def make_data():
    """Makes three small stories, and how they become batches."""
    return _make_data


@pytest.fixture
def make_task():
    """Makes the task of an objective."""
    return _make_task


@pytest.fixture
def objectives():
    """Makes pairs of generator and critic, and their objectives."""
    return _objectives
