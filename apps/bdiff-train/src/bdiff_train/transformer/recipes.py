"""Recipes: each function returns the whole config of a training, to be read, and changed by `dataclasses.replace`.

The order of the paper: `stage1` on short stories, `stage2` on long ones, then post-training by one of `block_forcing`,
`self_forcing` and `distill`. Post-training is short, at a low learning rate, and by AdamW alone: Muon's steps have one
length whatever the gradient, which is too much for a model that is nearly there. `stage3`, `sink` and `anchor` are
ours; they are for late chunks, which see copies of copies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bdiff_train.engine.guards import GuardConfig
from bdiff_train.transformer.adversarial import AdversarialConfig, DistillationConfig
from bdiff_train.transformer.batches import BatchConfig
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.loss import BlockForcingConfig
from bdiff_train.transformer.rollouts import RolloutConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The files and folders of a training."""

    out: Path
    """Folder of checkpoint, log and weights."""
    vae: Path
    """Weights of the autoencoder."""
    stories: Path
    """Folder of encoded stories."""
    start_from: Path | None = None
    """The transformer to start from; None: random weights."""


def default(files: Files) -> ModelTrainConfig:
    """Long stories from random weights in one run, as the shipped model was first trained."""
    return ModelTrainConfig(out=files.out, vae=files.vae, stories=files.stories, start_from=files.start_from)


def base(files: Files) -> ModelTrainConfig:
    """A neutral base from random weights, for comparisons of memories: none of them has a head start.

    A model that was trained with one memory is at home with it. Here each sample draws its memory from four, one of
    which shows nothing. The three kinds of takes show what a memory is good for: places that are left and come back to,
    one place that must stay as it is, and a way that leaves the picture and comes back. Chunks of four seconds make a
    minute of 15. Batches are small because samples are long: 1,024 tokens.
    """
    return replace(
        default(files),
        recipe="base",
        takes=("story", "place", "walk"),
        richness=2,
        num_stories=512,
        chunks_per_story=15,
        latent_frames=8,
        policy="semantic",
        more_policies=("rolling", "sink", "none"),
        batch=BatchConfig(stories=4, context_noise=0.2),
    )


def stage1(files: Files) -> ModelTrainConfig:
    """Many short stories: nine chunks are enough to leave a place and return, and five times as many stories fit in."""
    return replace(default(files), recipe="stage1", num_stories=1280, chunks_per_story=9)


def stage2(files: Files) -> ModelTrainConfig:
    """Long stories, from stage 1's weights: the higher levels of late chunks, and recall over a minute."""
    return replace(
        default(_started(files, "stage2", "stage1")),
        recipe="stage2",
        chunks_per_story=25,
        learning_rate=3e-4,
        orthogonal_learning_rate=0.003,
        decay=((0.3, 0.5), (0.6, 0.2), (0.85, 0.05)),
    )


def stage3(files: Files) -> ModelTrainConfig:
    """Long stories, from stage 2's weights, mostly with the past that late chunks see: estimates of estimates.

    The levels are those of late chunks, too. Flow matching on a true past alone leaves a model that copies its own
    softness.
    """
    return replace(
        stage2(_started(files, "stage3", "stage2")),
        recipe="stage3",
        num_stories=1280,
        level_min=0.82,
        level_max=0.92,
        batch=BatchConfig(context_noise=0.2, estimated_share=0.7, estimated_passes=3),
    )


def sink(files: Files) -> ModelTrainConfig:
    """As `stage3`, from stage 2's weights, and every target also sees the first chunk.

    What late chunks see of the protagonist are copies of copies, except in that chunk. Here it stays true while the
    others are estimates, and the model learns where to look.
    """
    config = stage3(files)
    return replace(
        config, recipe="sink", num_sink=1, age_bonus=0.15, batch=replace(config.batch, context=config.batch.context + 1)
    )


def anchor(files: Files) -> ModelTrainConfig:
    """As `sink`, from stage 2's weights, and of a place's copies only the oldest one in view has the true colours.

    Each return to a place adds an error to its colours. A model that takes colours from the mean of what it sees takes
    the errors, too.
    """
    config = sink(files)
    batch = replace(config.batch, early_share=0.25, estimated_share=0.8, tint=0.4)
    return replace(config, recipe="anchor", batch=batch)


def block_forcing(files: Files) -> ModelTrainConfig:
    """Flow matching + w * Eq. 5: the "Velocity Forcing" row of the paper's Table 6."""
    return replace(
        _post_training(_started(files, "block_forcing", "stage2")),
        recipe="block_forcing",
        block_forcing=BlockForcingConfig(weight=0.1, gamma=1.0, top_l=2),
    )


def self_forcing(files: Files) -> ModelTrainConfig:
    """Flow matching + w * the video-level GAN of Eq. 1 on the model's own videos: the "Self Forcing" row."""
    return replace(
        _post_training(_started(files, "self_forcing", "stage2")),
        recipe="self_forcing",
        self_forcing=AdversarialConfig(rollout=RolloutConfig(chunks=6, given=1, steps=4, last_chunks=3)),
        # A discriminator that is far ahead has losses near 0, and any usual loss is a large multiple of that.
        guard=GuardConfig(spike=math.inf),
    )


def block_self_forcing(files: Files) -> ModelTrainConfig:
    """Flow matching + w * Eq. 5 + w * Eq. 1: the paper's own row."""
    return replace(self_forcing(files), recipe="block_self_forcing", block_forcing=block_forcing(files).block_forcing)


def distill(files: Files) -> ModelTrainConfig:
    """A student of four steps without guidance, by distribution matching alone; sample it with 4 steps, guidance 1."""
    return replace(
        _post_training(_started(files, "distill", "the teacher")),
        recipe="distill",
        self_forcing=DistillationConfig(rollout=RolloutConfig(chunks=6, given=1, steps=4, last_chunks=3), guidance=2.0),
        fidelity_weight=0.0,
        learning_rate=2e-5,
    )


RECIPES: dict[str, Callable[[Files], ModelTrainConfig]] = {
    "default": default,
    "base": base,
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
"""Recipes by the names that `bdiff train model --recipe` takes."""


def _post_training(files: Files) -> ModelTrainConfig:
    """A short training at the learning rates of the paper's later steps, on smaller batches: roll-outs cost more."""
    return replace(
        default(files),
        minutes=15.0,
        learning_rate=5e-5,
        orthogonal_learning_rate=0.0,
        decay=((0.5, 0.5),),
        warmup_steps=20,
        batch=BatchConfig(stories=4, copies=4),
        preview_minutes=5.0,
    )


def _started(files: Files, recipe: str, origin: str) -> Files:
    if files.start_from is None:
        raise ValueError(
            f"{recipe} goes on from a trained transformer: give start_from (--start-from), the folder transformer/ of "
            f"{origin}"
        )
    return files
