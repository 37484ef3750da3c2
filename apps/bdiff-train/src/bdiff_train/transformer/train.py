"""Training the transformer on stories: a chunk under the context its memory would show, and the model's own films."""

import json
import math
from dataclasses import asdict, replace

import torch
from torch import nn

from bdiff.files.whole import write_whole
from bdiff.run.plan import matmul_rate
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
from bdiff_train.engine.distributed import torchrun
from bdiff_train.engine.loop import fit
from bdiff_train.transformer.adversarial import Adversarial, AdversarialGame, DistillationGame, Game, Stage
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.datasets import read_data
from bdiff_train.transformer.task import Exam, ModelTask
from noisesched import chunk_levels

_CAPTIONS_TOGETHER = 32
"""Thousands of captions are encoded at the start: together in a quarter of the time."""


def train_model(config: ModelTrainConfig, *, watch: WatchFunction | None = None) -> RunResult:
    """Train a transformer, or go on training it, and write its weights in half precision.

    Also written: ``log.jsonl``, ``curve.png``, ``preview.png`` (truth above a generated story), ``recipe.json``, the
    checkpoint to go on from, ``sampling.json`` and the autoencoder: the folder can be sampled. Started by torchrun, the
    transformer is trained by all its processes together.

    Args:
        config: The training.
        watch: Told how far it is after each step, in place of a progress bar; True ends it early with a checkpoint to
            go on from, and no weights are written.

    Returns:
        Steps, seconds, the loss on held-out stories, and whether the training is over.
    """
    if config.start_from is not None:
        config = replace(config, model=open_checkpoint(config.start_from).config)
    with torchrun() as ranks:
        vae = load_vae(config.vae)
        encoder = SentenceTextEncoder(text_length=config.model.text_length, batch_size=_CAPTIONS_TOGETHER)
        data = read_data(config, vae, encoder, ranks)
        torch.manual_seed(config.seed)
        model = _transformer(config)
        if ranks.is_first:
            config.out.mkdir(parents=True, exist_ok=True)
            write_whole(config.out / "recipe.json", recipe_json(config))
        stage = stage_of(config, model, data.stories)
        trained, game = _players(config, model, stage)
        task = ModelTask(
            config=config,
            stage=stage,
            exam=Exam(stories=data.held_out, preview=data.preview, vae=vae, encoder=encoder),
            game=game,
        )
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
            ),
        )
        if ranks.is_first and result.finished:
            _write_model(config, model, vae)
        ranks.wait()
    return result


def recipe_json(config: ModelTrainConfig) -> str:
    """The whole config; what has no limit is null, for JSON knows no infinity."""

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


def stage_of(config: ModelTrainConfig, model: ChunkDiT, stories: StorySet) -> Stage:
    """The stories, and how they are cut into batches."""
    return Stage(
        stories=stories,
        levels=chunk_levels(
            stories.num_chunks, config.schedule, level_min=config.level_min, level_max=config.level_max
        ),
        policy=config.memory,
        batch=config.batch,
        tokens_per_chunk=model.config.num_tokens(stories.frames_per_chunk, *stories.latents.shape[-2:]),
        bfloat16=config.bfloat16,
    )


def _players(config: ModelTrainConfig, model: ChunkDiT, stage: Stage) -> tuple[nn.Module, Game | None]:
    """What is trained: the transformer alone, or beside a judge."""
    forcing = config.self_forcing
    if forcing is None:
        return model, None
    if isinstance(forcing, Adversarial):
        return AdversarialGame.players(model, forcing), AdversarialGame(config=forcing, stage=stage)
    teacher = load_transformer(config.start_from, dtype=torch.float32).requires_grad_(False).eval()
    return DistillationGame.players(model, teacher), DistillationGame(config=forcing, stage=stage, teacher=teacher)


def run_config(config: ModelTrainConfig, task: ModelTask, model: ChunkDiT) -> RunConfig:
    """What `fit` is told of this training."""
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
        rates=(("judge.", forcing.judge_rate),) if forcing else (),
        decay=config.decay,
        warmup_steps=config.warmup_steps,
        guard=config.guard,
        # A film is generated by methods other than the transformer's forward, and how often context is estimated is
        # drawn for each micro-batch: ranks that gather block by block must all call forward equally often.
        sharding="whole" if forcing or config.batch.estimated_share else "blocks",
        evaluate_minutes=config.preview_minutes,
        tensorboard=config.tensorboard,
        work=task.work(model.config, rate=rate),
    )


def orthogonal_matrices(model: ChunkDiT) -> list[nn.Parameter]:
    """The weights that Muon trains: the matrices of the blocks."""
    return [p for name, p in model.blocks.named_parameters() if name.endswith("weight") and p.ndim == 2]


def _write_model(config: ModelTrainConfig, model: ChunkDiT, vae: CausalVAE) -> None:
    """All that `bdiff sample --model` wants, so that the folder of a training is a model."""
    save_transformer(model.half(), config.out / "transformer")
    save_vae(vae, config.out / "vae.safetensors", dtype=torch.float16)
    write_whole(config.out / "sampling.json", json.dumps(config.sampling, indent=2) + "\n")
