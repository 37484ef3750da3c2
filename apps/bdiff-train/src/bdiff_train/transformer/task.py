"""A training of the transformer as `fit` sees it: its losses, which part a step trains, and its evaluations."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from bdiff import Sampling
from bdiff_core import CausalVAE, ChunkDiT, ModelConfig, TextEncoder, costs
from bdiff_train.data.stories import StorySet
from bdiff_train.engine.config import Loss
from bdiff_train.engine.log import Workload
from bdiff_train.engine.loop import step_generator
from bdiff_train.transformer.adversarial import AdversarialObjective, GeneratorAndCritic
from bdiff_train.transformer.batches import Batch, make_batch
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.estimated_context import with_estimated_context
from bdiff_train.transformer.loss import copies_velocity, fidelity_loss
from bdiff_train.transformer.preview import write_preview
from bdiff_train.transformer.rollouts import Window
from bdiff_train.transformer.story_sampler import Story
from bdiff_train.transformer.training_data import TrainingData

logger = logging.getLogger(__name__)

_GENERATOR, _CRITIC = "generator.", "critic."
"""Beginnings of the names of `GeneratorAndCritic`'s parameters."""

_HELD_OUT_BATCHES = 8
"""Batches of each kind of stories that an evaluation takes the mean loss of."""

_CRITIC_DRAWS = 2**40
"""The critic's steps draw by numbers from here on, far from those of the generator's steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSet:
    """What evaluations use."""

    stories: Mapping[str, StorySet]
    """Held-out stories of each kind."""
    preview: Story
    """The story of previews."""
    vae: CausalVAE
    encoder: TextEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTask:
    """A training of the transformer."""

    config: ModelTrainConfig
    data: TrainingData
    """The stories to train on, and how batches are made of them."""
    evaluation_set: EvaluationSet | None = None
    """What evaluations use; None: there are no evaluations."""
    objective: AdversarialObjective | None = None
    """Self Forcing or distillation; None: real videos only."""

    def part(self, step: int) -> str:
        """Which part a step trains: the critic for some steps, then the generator for one; "" for everything."""
        if self.objective is None:
            return ""
        turn = step % (self.objective.config.critic_steps + 1)
        return _GENERATOR if turn == self.objective.config.critic_steps else _CRITIC

    def draws(self, step: int) -> int:
        """The number that seeds a step's draws.

        The generator's steps are numbered as if there were no critic, so that they see the same real videos.
        """
        if self.objective is None:
            return step
        turn, place = divmod(step, self.objective.config.critic_steps + 1)
        return turn if place == self.objective.config.critic_steps else _CRITIC_DRAWS + step

    def loss(self, module: nn.Module, step: int, generator: torch.Generator) -> Loss:
        """Compute the loss of a micro-batch.

        In the critic's steps it is the critic's. In all others it is fidelity to real videos (with Eq. 5 if it is asked
        for), plus weight times the loss on the model's own videos.
        """
        if self.objective is None:
            model = _transformer(module)
            return self._fidelity(model, self._training_batch(model, generator))
        assert isinstance(module, GeneratorAndCritic)
        draws = rollout_generator(generator)
        if self.part(step) == _CRITIC:
            return self.objective.critic_loss(module, draws)
        adversarial, figures = self.objective.generator_loss(module, draws)
        loss = self.objective.config.weight * adversarial
        if self.config.fidelity_weight:
            model = module.generator
            fidelity, more = self._fidelity(model, self._training_batch(model, generator))
            loss = loss + self.config.fidelity_weight * fidelity
            figures = {"fidelity": fidelity.item(), **figures, **more}
        return loss, figures

    def batch_name(self, step: int, generator: torch.Generator) -> Mapping[str, object]:
        """Name the stories and target chunks of a micro-batch, or the part of a story that is rolled out."""
        if self.objective is None:
            batch = self._batch(self.data.stories, generator)
            return {"stories": list(batch.stories), "chunks": list(batch.targets)}
        chunks = self.objective.config.rollout.chunks
        window = Window.draw(self.data.stories, chunks, generator=rollout_generator(generator))
        return {"stories": [window.story], "chunks": list(range(window.start, window.start + chunks)), "rollout": True}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Compute the loss on fixed batches of held-out stories, and write a preview.

        With several kinds of stories the loss is the mean of those of each kind, whose batches draw the same.
        """
        used, model = self.evaluation_set, _transformer(module)
        assert used is not None
        losses = {kind: self._held_out_loss(model, stories) for kind, stories in used.stories.items()}
        write_preview(
            model,
            used.vae,
            used.encoder,
            story=used.preview,
            policy=self.config.memory,
            sampling=self._sampling,
            path=self.config.out / "preview.png",
        )
        figures = {"held_out_loss": math.fsum(losses.values()) / len(losses)}
        if len(losses) > 1:
            figures |= {f"held_out_loss.{kind}": loss for kind, loss in losses.items()}
        logger.info("%s", figures)
        return figures

    def workload(self, model: ModelConfig, *, rate: float) -> Workload:
        """Count what a micro-batch costs; with roll-outs, the mean tokens of all steps, without operations.

        Args:
            model: Sizes of the transformer.
            rate: Operations a second of this machine in large matrix products.
        """
        batch, (height, width) = self.config.batch, self.data.stories.latents.shape[-2:]
        places = batch.context + batch.copies
        shape = costs.ChunkShape(frames=places * self.data.stories.frames_per_chunk, height=height, width=width)
        tokens = batch.stories * places * self.data.tokens_per_chunk
        if self.objective is None:
            forward = costs.pass_flops(model, shape) + places * costs.text_flops(model)
            return Workload(tokens=tokens, flops=3 * batch.stories * forward, rate=rate)
        rollout = self.objective.config.rollout
        passes = (rollout.chunks - rollout.given) * (rollout.steps + 1) / 2 + rollout.chunks
        share = bool(self.config.fidelity_weight) / (self.objective.config.critic_steps + 1)
        return Workload(tokens=round(passes * self.data.tokens_per_chunk + share * tokens))

    @property
    def _sampling(self) -> Sampling:
        """How previews are sampled: as the model will be."""
        return Sampling(latent_frames=self.data.stories.frames_per_chunk).changed(self.config.sampling)

    def _held_out_loss(self, model: ChunkDiT, stories: StorySet) -> float:
        batches = (self._batch(stories, step_generator(self.config.seed + 1, k)) for k in range(_HELD_OUT_BATCHES))
        return math.fsum(self._fidelity(model, batch)[0].item() for batch in batches) / _HELD_OUT_BATCHES

    def _training_batch(self, model: ChunkDiT, generator: torch.Generator) -> Batch:
        """Make a batch, in which some samples see estimates of their context."""
        config, device = self.config.batch, next(model.parameters()).device
        batch = self._batch(self.data.stories, generator).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.bfloat16):
            return with_estimated_context(
                model,
                batch,
                share=config.estimated_share,
                passes=config.estimated_passes,
                tint=config.tint,
                frames_per_chunk=self.data.stories.frames_per_chunk,
                generator=generator,
            )

    def _batch(self, stories: StorySet, generator: torch.Generator) -> Batch:
        forcing = self.config.block_forcing
        return make_batch(
            stories,
            self.data.levels,
            self.data.policies,
            config=self.config.batch,
            tokens_per_chunk=self.data.tokens_per_chunk,
            generator=generator,
            reference_chunks=forcing.top_l if forcing else 0,
        )

    def _fidelity(self, model: ChunkDiT, batch: Batch) -> Loss:
        length = self.data.stories.frames_per_chunk
        batch = batch.to(next(model.parameters()).device)
        velocity = copies_velocity(model, batch, frames_per_chunk=length, bfloat16=self.config.bfloat16)
        return fidelity_loss(
            velocity,
            batch,
            frames_per_chunk=length,
            motion=self.config.motion_weight,
            block_forcing=self.config.block_forcing,
        )


def _transformer(module: nn.Module) -> ChunkDiT:
    """The transformer of what is trained."""
    model = module.generator if isinstance(module, GeneratorAndCritic) else module
    assert isinstance(model, ChunkDiT)
    return model


def rollout_generator(generator: torch.Generator) -> torch.Generator:
    """Make the generator of a micro-batch's roll-outs, so that they and its real videos draw independently."""
    return torch.Generator().manual_seed(generator.initial_seed() ^ 1)
