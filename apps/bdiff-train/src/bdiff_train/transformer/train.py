"""Training of the transformer on stories or videos: real chunks under the context that the memory would show them.

Post-training adds losses on the model's own videos.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from bdiff.files import to_json, write_whole
from bdiff.run import matmul_rate
from bdiff_core import (
    CausalVAE,
    ChunkDiT,
    SentenceTextEncoder,
    load_transformer,
    load_vae,
    save_transformer,
    save_vae,
)
from bdiff_core.checkpoint import open_checkpoint
from bdiff_train.data.stories import StorySet
from bdiff_train.engine.config import RunConfig, RunResult, Task, WatchFunction
from bdiff_train.engine.distributed import Ranks, torchrun
from bdiff_train.engine.loop import fit
from bdiff_train.transformer.adversarial import (
    OLD_NAMES,
    AdversarialConfig,
    AdversarialObjective,
    DiscriminatorObjective,
    DistillationObjective,
)
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.datasets import load_datasets
from bdiff_train.transformer.task import EvaluationSet, ModelTask
from bdiff_train.transformer.training_data import TrainingData
from noisesched import chunk_levels

_CAPTION_BATCH = 32
"""Captions that are encoded together: thousands are encoded at the start, in a quarter of the time of one by one."""


def train_model(config: ModelTrainConfig, *, watch: WatchFunction | None = None) -> RunResult:
    """Train a transformer, or go on training it, and write its weights in half precision.

    The folder becomes a model that can be sampled: with ``sampling.json``, the autoencoder, and the words of the
    captions in ``words.json``. Also written are ``log.jsonl``, ``curve.png``, ``preview.png``, ``recipe.json``, and the
    checkpoint to go on from. If torchrun started several processes, they train the transformer together.

    Args:
        config: The settings.
        watch: Called after each step with the fraction that is done, in place of a progress bar. True ends the training
            early, with a checkpoint to go on from and without weights.

    Returns:
        Steps, seconds, the loss on held-out stories, and whether the training is over.
    """
    if config.start_from is not None:
        config = replace(config, model=open_checkpoint(config.start_from).config)
    with torchrun() as ranks:
        return _train(config, ranks, watch)


def _train(config: ModelTrainConfig, ranks: Ranks, watch: WatchFunction | None) -> RunResult:
    vae = load_vae(config.vae)
    encoder = SentenceTextEncoder(text_length=config.model.text_length, batch_size=_CAPTION_BATCH)
    datasets = load_datasets(config, vae, encoder, ranks)
    torch.manual_seed(config.seed)
    model = _transformer(config)
    if ranks.is_first:
        config.out.mkdir(parents=True, exist_ok=True)
        write_whole(config.out / "recipe.json", recipe_json(config))
    data = training_data(config, model, datasets.train)
    trained, objective = _with_critic(config, model, data)
    evaluated = EvaluationSet(stories=datasets.held_out, preview=datasets.preview, vae=vae, encoder=encoder)
    task = ModelTask(config=config, data=data, evaluation_set=evaluated, objective=objective)
    result = fit(
        trained,
        run_config(config, task, model),
        Task(
            loss=task.loss,
            evaluate=task.evaluate,
            orthogonal=orthogonal_matrices(model) if config.orthogonal_learning_rate else [],
            part=task.part,
            draws=task.draws,
            watch=watch,
            batch_name=task.batch_name,
            old_names={} if objective is None else OLD_NAMES,
        ),
    )
    if ranks.is_first and result.finished:
        _write_model(config, model, vae, datasets.words)
    ranks.wait()
    return result


def recipe_json(config: ModelTrainConfig) -> str:
    """Write the whole config as JSON; what has no limit is null, because JSON has no infinity."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return None if isinstance(value, float) and math.isinf(value) else value

    return json.dumps(plain(asdict(config)), default=str, indent=2, allow_nan=False) + "\n"


def _transformer(config: ModelTrainConfig) -> ChunkDiT:
    start = config.start_from
    model = load_transformer(start, dtype=torch.float32) if start else ChunkDiT(config.model)
    model.gradient_checkpointing = config.activation_checkpointing
    return model


def training_data(config: ModelTrainConfig, model: ChunkDiT, stories: StorySet) -> TrainingData:
    """Put the stories together with how batches are made of them."""
    return TrainingData(
        stories=stories,
        levels=chunk_levels(
            stories.num_chunks, config.schedule, level_min=config.level_min, level_max=config.level_max
        ),
        policies=config.memories,
        batch=config.batch,
        tokens_per_chunk=model.config.num_tokens(stories.frames_per_chunk, *stories.latents.shape[-2:]),
        bfloat16=config.bfloat16,
    )


def _with_critic(
    config: ModelTrainConfig, model: ChunkDiT, data: TrainingData
) -> tuple[nn.Module, AdversarialObjective | None]:
    """Return what is trained: the transformer alone, or together with a critic and their objective."""
    forcing = config.self_forcing
    if forcing is None:
        return model, None
    if isinstance(forcing, AdversarialConfig):
        return DiscriminatorObjective.make_pair(model, forcing), DiscriminatorObjective(config=forcing, data=data)
    teacher = _teacher(config.start_from)
    return (
        DistillationObjective.make_pair(model, teacher),
        DistillationObjective(config=forcing, data=data, teacher=teacher),
    )


def _teacher(start_from: Path | None) -> ChunkDiT:
    assert start_from is not None  # the config refuses distillation without it
    return load_transformer(start_from, dtype=torch.float32).requires_grad_(False).eval()


def run_config(config: ModelTrainConfig, task: ModelTask, model: ChunkDiT) -> RunConfig:
    """Make the settings of the run that trains a transformer."""
    rate = matmul_rate("cpu", torch.bfloat16 if config.bfloat16 else torch.float32, model.config.dim)
    forcing = config.self_forcing
    return RunConfig(
        out=config.out,
        minutes=config.minutes,
        max_steps=config.max_steps,
        seed=config.seed,
        micro_batches=config.micro_batches,
        learning_rate=config.learning_rate,
        orthogonal_learning_rate=config.orthogonal_learning_rate,
        orthogonal_dtype=torch.bfloat16 if config.bfloat16 else torch.float32,
        rates=(("critic.", forcing.critic_rate),) if forcing else (),
        decay=config.decay,
        warmup_steps=config.warmup_steps,
        guard=config.guard,
        # Ranks that gather block by block must all run the blocks equally often. A roll-out leaves its grid at a random
        # step, and the number of estimation passes is drawn for each micro-batch.
        sharding="whole" if forcing or config.batch.estimated_share else "blocks",
        evaluate_minutes=config.preview_minutes,
        tensorboard=config.tensorboard,
        workload=task.workload(model.config, rate=rate),
    )


def orthogonal_matrices(model: ChunkDiT) -> list[nn.Parameter]:
    """List the weights that Muon trains: the matrices of the blocks."""
    return [p for name, p in model.blocks.named_parameters() if name.endswith("weight") and p.ndim == 2]


def _write_model(config: ModelTrainConfig, model: ChunkDiT, vae: CausalVAE, words: Mapping[str, object]) -> None:
    """Write all that `bdiff sample --model` needs, so that the folder of a training is a model."""
    write_whole(config.out / "words.json", to_json(words) + "\n")
    save_transformer(model.half(), config.out / "transformer")
    save_vae(vae, config.out / "vae.safetensors", dtype=torch.float16)
    write_whole(config.out / "sampling.json", json.dumps(config.sampling, indent=2) + "\n")
