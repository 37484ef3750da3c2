"""Post-training of a cell: the recipe of its loss, shown the past by its own policy."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bdiff.files.whole import write_whole
from bdiff_bench.harness.machine import commit
from bdiff_bench.harness.recipe import weights_digest
from bdiff_core import load_vae
from bdiff_train.data.stories import STORIES_PER_SHARD, prepare_stories
from bdiff_train.data.story_pool import HELD_OUT
from bdiff_train.transformer import recipes
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.train import train_model
from studies.ablation.cells import Cell
from studies.ablation.config import AblationConfig

_WARMUP = 20
"""Steps of the transformer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A cell post-trained with one seed."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """Its name in files."""
        return f"{self.cell.label}-seed{self.seed}"

    def folder(self, out: Path) -> Path:
        """Where it is trained."""
        return out / "runs" / self.name

    def transformer(self, out: Path) -> Path:
        """Folder of its weights."""
        return self.folder(out) / "transformer"

    def facts(self, out: Path) -> dict[str, Any] | None:
        """What its post-training reports; None: it is not over, or its weights are not in this folder any more."""
        file = self.folder(out) / "trained.json"
        if not (file.exists() and any(self.transformer(out).glob("*.safetensors"))):
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        # an older version did not write which weights they are
        return found if "weights" in found else found | {"weights": weights_digest(self.transformer(out))}


def training_config(config: AblationConfig, run: Run) -> ModelTrainConfig:
    """The whole training of a run.

    All cells take the same number of steps of the transformer on the same real videos; a judge has steps of its own
    between them.

    Raises:
        ValueError: If the cell is not post-trained.
    """
    cell, shared = run.cell, config.training
    files = recipes.Files(
        out=run.folder(config.out), vae=config.model, stories=config.encoded, start_from=config.base(run.seed)
    )
    made = replace(_recipe(cell, files), recipe=f"ablation {cell.label}")
    turns = 1
    if made.self_forcing is not None:
        rollout = replace(
            made.self_forcing.rollout,
            chunks=shared.film_chunks,
            steps=shared.film_steps,
            shift=config.sampling.shift,
        )
        made = replace(made, self_forcing=replace(made.self_forcing, rollout=rollout, weight=cell.game))
        turns += made.self_forcing.judge_steps
    if made.block_forcing is not None:
        made = replace(made, block_forcing=replace(made.block_forcing, weight=cell.weight, gamma=cell.gamma))
    return replace(
        made,
        minutes=float("inf"),
        max_steps=turns * shared.steps,
        warmup_steps=turns * _WARMUP,
        learning_rate=shared.learning_rate,
        level_min=shared.level_min,
        level_max=shared.level_max,
        seed=run.seed,
        policy=cell.policy,
        coverage=cell.coverage,
        batch=replace(made.batch, stories=shared.batch),
        num_stories=shared.stories,
        chunks_per_story=shared.chunks,
        held_out_stories=shared.held_out,
        richness=config.sampling.richness,
        bfloat16=shared.bfloat16,
        preview_minutes=float("inf"),
        preview_chunks=2,
    )


def post_train(config: AblationConfig, run: Run, *, watch: Callable[[float], bool]) -> bool:
    """Post-train a run, or go on with it; ``trained.json`` says when it is over, and which weights came of it.

    That of a cell without a loss is a copy of its base, so that it is found where those of all others are.

    Args:
        config: The ablation.
        run: The cell and the seed.
        watch: Told the fraction done after each step; True stops it, to be gone on with.

    Returns:
        Whether it is over.
    """
    if run.facts(config.out) is not None:
        return True
    trained = run.folder(config.out) / "trained.json"
    trained.unlink(missing_ok=True)  # of weights that were deleted since
    if run.cell.loss is None:
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
    checkpoint.unlink(missing_ok=True)  # a hundred megabytes that nothing goes on from
    return True


def encode_stories(config: AblationConfig, *, over: Callable[[], bool], on_stories: Callable[[int], None]) -> bool:
    """Encode the stories to train on that are missing, until time is over.

    Args:
        config: The ablation.
        over: Whether it is.
        on_stories: Told how many stories are there.

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


def _recipe(cell: Cell, files: recipes.Files) -> ModelTrainConfig:
    match cell.loss:
        case "flow-matching":
            return replace(recipes.block_forcing(files), block_forcing=None)
        case "block-forcing":
            return recipes.block_forcing(files)
        case "self-forcing":
            return recipes.self_forcing(files)
        case "block-self-forcing":
            return recipes.block_self_forcing(files)
        case None:
            raise ValueError(f"{cell.label} is not post-trained")
