"""Recipes: each function returns the whole config of a training, to be read, and changed by `dataclasses.replace`.

The order of the paper: `stage1` on many takes, `stage2` on long ones, then post-training by one of `block_forcing`,
`self_forcing` and `distill`. Post-training is short, at a low rate, and by AdamW alone: Muon's steps have one length
whatever the gradient, which is much for a model that is nearly there. `stage3`, `sink` and `anchor` are ours, against
what goes wrong when chunks are copies of copies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bdiff_train.engine.guards import GuardConfig
from bdiff_train.transformer.adversarial import Adversarial, Distillation
from bdiff_train.transformer.batches import GatherConfig
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.loss import BlockForcing
from bdiff_train.transformer.rollouts import RolloutConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where a training finds things and leaves them."""

    out: Path
    """Folder of checkpoint, log and weights."""
    vae: Path
    """The autoencoder."""
    stories: Path
    """Folder of encoded stories."""
    start_from: Path | None = None
    """The transformer to begin with."""


def default(files: Files) -> ModelTrainConfig:
    """Long takes from random weights in one go: how the shipped model was first trained."""
    return ModelTrainConfig(out=files.out, vae=files.vae, stories=files.stories, start_from=files.start_from)


def stage1(files: Files) -> ModelTrainConfig:
    """Many takes: nine chunks are enough to leave a place and to come back, and five times as many worlds fit in."""
    return replace(default(files), recipe="stage1", num_stories=1280, chunks_per_story=9)


def stage2(files: Files) -> ModelTrainConfig:
    """Long takes, from stage 1's weights: the higher levels of late chunks, and recall over a minute."""
    return replace(
        default(_started(files, "stage2", "stage1")),
        recipe="stage2",
        chunks_per_story=25,
        learning_rate=3e-4,
        orthogonal_learning_rate=0.003,
        decay=((0.3, 0.5), (0.6, 0.2), (0.85, 0.05)),
    )


def stage3(files: Files) -> ModelTrainConfig:
    """Long takes, from stage 2's weights, most of them with a past as late chunks see it: estimates of estimates.

    Levels are those of late chunks too. Flow matching on a true past leaves a model that copies its own softness.
    """
    return replace(
        stage2(_started(files, "stage3", "stage2")),
        recipe="stage3",
        num_stories=1280,
        level_min=0.82,
        level_max=0.92,
        batch=GatherConfig(context_noise=0.2, estimated_share=0.7, estimated_passes=3),
    )


def sink(files: Files) -> ModelTrainConfig:
    """From stage 2's weights: as `stage3`, and every target sees the first chunk beside what it saw before.

    What late chunks see of the protagonist are copies of copies, but for that chunk: here it stays true while the
    others are estimates, and the model learns where to look.
    """
    config = stage3(files)
    return replace(
        config, recipe="sink", num_sink=1, seniority=0.15, batch=replace(config.batch, context=config.batch.context + 1)
    )


def anchor(files: Files) -> ModelTrainConfig:
    """From stage 2's weights: as `sink`, and of a place's copies only the oldest in view has the true colours.

    Each return adds an error to colours; a model that takes them from the mean of what it sees takes the errors, too.
    """
    config = sink(files)
    batch = replace(config.batch, early_share=0.25, estimated_share=0.8, tint=0.4)
    return replace(config, recipe="anchor", batch=batch)


def block_forcing(files: Files) -> ModelTrainConfig:
    """Flow matching + w * Eq. 5: the "Velocity Forcing" row of the paper's Table 6."""
    return replace(
        _post_training(_started(files, "block_forcing", "stage2")),
        recipe="block_forcing",
        block_forcing=BlockForcing(weight=0.1, gamma=1.0, top_l=2),
    )


def self_forcing(files: Files) -> ModelTrainConfig:
    """Flow matching + w * the video-level GAN of Eq. 1 on the model's own films: the "Self Forcing" row."""
    return replace(
        _post_training(_started(files, "self_forcing", "stage2")),
        recipe="self_forcing",
        self_forcing=Adversarial(rollout=RolloutConfig(chunks=6, given=1, steps=4, last_chunks=3)),
        # A judge that has nearly won has losses near 0, of which any other is a large multiple.
        guard=GuardConfig(spike=math.inf),
    )


def block_self_forcing(files: Files) -> ModelTrainConfig:
    """Flow matching + w * Eq. 5 + w * Eq. 1: the paper's own row."""
    return replace(self_forcing(files), recipe="block_self_forcing", block_forcing=block_forcing(files).block_forcing)


def distill(files: Files) -> ModelTrainConfig:
    """A four-step student without guidance, by distribution matching alone; sample it with 4 steps, guidance 1."""
    return replace(
        _post_training(_started(files, "distill", "the teacher")),
        recipe="distill",
        self_forcing=Distillation(rollout=RolloutConfig(chunks=6, given=1, steps=4, last_chunks=3), guidance=2.0),
        fidelity_weight=0.0,
        learning_rate=2e-5,
    )


RECIPES: dict[str, Callable[[Files], ModelTrainConfig]] = {
    "default": default,
    "stage1": stage1,
    "stage2": stage2,
    "stage3": stage3,
    "sink": sink,
    "anchor": anchor,
    "block-forcing": block_forcing,
    "self-forcing": self_forcing,
    "block-self-forcing": block_self_forcing,
    "distill": distill,
}


def _post_training(files: Files) -> ModelTrainConfig:
    """Short, at the rates of the paper's later steps, on smaller batches beside what a film costs."""
    return replace(
        default(files),
        minutes=15.0,
        learning_rate=5e-5,
        orthogonal_learning_rate=0.0,
        decay=((0.5, 0.5),),
        warmup_steps=20,
        batch=GatherConfig(stories=4, copies=4),
        preview_minutes=5.0,
    )


def _started(files: Files, recipe: str, origin: str) -> Files:
    if files.start_from is None:
        raise ValueError(
            f"{recipe} goes on from a trained transformer: give start_from (--start-from), the folder transformer/ of "
            f"{origin}"
        )
    return files
