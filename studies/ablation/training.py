"""Post-training of a configuration: the recipe of its loss, with its own policy."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness import commit, weights_digest
from bdiff_core import load_vae
from bdiff_train.data import HELD_OUT, STORIES_PER_SHARD, prepare_stories
from bdiff_train.transformer import ModelTrainConfig, recipes, train_model
from studies.ablation.config import AblationConfig
from studies.ablation.configurations import Configuration

_WARMUP = 20
"""Warm-up steps of the transformer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun:
    """A configuration that is post-trained with one seed."""

    configuration: Configuration
    seed: int

    @property
    def name(self) -> str:
        """Its name in files."""
        return f"{self.configuration.label}-seed{self.seed}"

    def folder(self, out: Path) -> Path:
        """Folder of its training."""
        return out / "runs" / self.name

    def transformer(self, out: Path) -> Path:
        """Folder of its weights."""
        return self.folder(out) / "transformer"

    def facts(self, out: Path) -> dict[str, Any] | None:
        """The report of its post-training; None: it is not over, or its weights are no longer in this folder."""
        file = self.folder(out) / "trained.json"
        if not (file.exists() and any(self.transformer(out).glob("*.safetensors"))):
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        # an older version did not write the digest of the weights
        return found if "weights" in found else found | {"weights": weights_digest(self.transformer(out))}


def training_config(config: AblationConfig, run: TrainingRun) -> ModelTrainConfig:
    """The training of a run.

    All configurations take the same number of steps of the transformer on the same real videos. A critic has its own
    steps between them.

    Raises:
        ValueError: If the configuration is not post-trained.
    """
    chosen, shared = run.configuration, config.training
    files = recipes.Files(
        out=run.folder(config.out), vae=config.model, stories=config.encoded, start_from=config.base(run.seed)
    )
    made = replace(_recipe(chosen, files), recipe=f"ablation {chosen.label}")
    turns = 1
    if (forcing := made.self_forcing) is not None:
        rollout = replace(
            forcing.rollout,
            chunks=shared.video_chunks,
            steps=shared.video_steps,
            shift=config.sampling.shift,
        )
        made = replace(made, self_forcing=replace(forcing, rollout=rollout, weight=chosen.adversarial))
        turns += forcing.critic_steps
    if made.block_forcing is not None:
        made = replace(made, block_forcing=replace(made.block_forcing, weight=chosen.weight, gamma=chosen.gamma))
    return replace(
        made,
        minutes=float("inf"),
        max_steps=turns * shared.steps,
        warmup_steps=turns * _WARMUP,
        learning_rate=shared.learning_rate,
        level_min=shared.level_min,
        level_max=shared.level_max,
        seed=run.seed,
        policy=chosen.policy,
        coverage=chosen.coverage,
        batch=replace(made.batch, stories=shared.batch),
        num_stories=shared.stories,
        chunks_per_story=shared.chunks,
        held_out_stories=shared.held_out,
        richness=config.sampling.richness,
        bfloat16=shared.bfloat16,
        preview_minutes=float("inf"),
        preview_chunks=2,
    )


def post_train(config: AblationConfig, run: TrainingRun, *, watch: Callable[[float], bool]) -> bool:
    """Post-train a run, or go on with it; ``trained.json`` is written when it is over, with a digest of the weights.

    A configuration without a loss gets a copy of its base, so that its weights lie where those of the others do.

    Args:
        config: The ablation.
        run: The configuration and the seed.
        watch: Called with the fraction done after each step; True stops the training, which can be gone on with.

    Returns:
        Whether it is over.
    """
    if run.facts(config.out) is not None:
        return True
    trained = run.folder(config.out) / "trained.json"
    trained.unlink(missing_ok=True)  # its weights were deleted since
    if run.configuration.loss is None:
        shutil.copytree(config.base(run.seed), run.transformer(config.out), dirs_exist_ok=True)
        done: dict[str, Any] = {"steps": 0, "held_out_loss": None, "seconds": 0.0}
    else:
        result = train_model(training_config(config, run), watch=watch)
        if not result.finished:
            return False
        loss = result.evaluation["held_out_loss"]
        done = {"steps": result.steps, "held_out_loss": loss, "seconds": round(result.seconds, 1)}
    facts = done | {"commit": commit(), "weights": weights_digest(run.transformer(config.out))}
    write_whole(trained, json.dumps(facts, indent=2) + "\n")
    checkpoint = run.folder(config.out) / "checkpoint.pt"
    checkpoint.unlink(missing_ok=True)  # a hundred megabytes that are not needed any more
    return True


def encode_stories(config: AblationConfig, *, over: Callable[[], bool], on_stories: Callable[[int], None]) -> bool:
    """Encode the stories to train on that are missing, until the time is over.

    Args:
        config: The ablation.
        over: Whether the time is over.
        on_stories: Called with the number of stories that are there.

    Returns:
        Whether all are there.
    """
    vae = load_vae(config.model)
    shared, done = config.training, 0
    for first, count in ((0, shared.stories), (HELD_OUT, shared.held_out)):
        seeds = range(first, first + count)
        for begin in range(0, count, STORIES_PER_SHARD):
            if over():
                return False
            group = seeds[begin : begin + STORIES_PER_SHARD]
            prepare_stories(
                vae,
                group,
                folder=config.encoded,
                num_chunks=shared.chunks,
                richness=config.sampling.richness,
            )
            done += len(group)
            on_stories(done)
    return True


def _recipe(configuration: Configuration, files: recipes.Files) -> ModelTrainConfig:
    match configuration.loss:
        case "flow-matching":
            return replace(recipes.block_forcing(files), block_forcing=None)
        case "block-forcing":
            return recipes.block_forcing(files)
        case "self-forcing":
            return recipes.self_forcing(files)
        case "block-self-forcing":
            return recipes.block_self_forcing(files)
        case None:
            raise ValueError(f"{configuration.label} is not post-trained")
