"""Losses on the model's own videos: a generator samples, a critic is trained beside it, and they take turns.

Generator and critic are parts of one module, `GeneratorAndCritic`. So one training loop, with its checkpoints and
averages, serves both as it serves a single model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_core import ChunkDiT
from bdiff_train.engine.config import Loss
from bdiff_train.transformer.batches import Batch
from bdiff_train.transformer.loss import fidelity_loss
from bdiff_train.transformer.rollouts import RolloutConfig, Window
from bdiff_train.transformer.training_data import TrainingData
from forcing_losses import (
    VideoDiscriminator,
    discriminator_loss,
    distribution_matching_loss,
    generator_loss,
    gradient_penalty,
    score_identity_loss,
)

OLD_NAMES: Mapping[str, str] = {"model.": "generator.", "judge.": "critic."}
"""Beginnings of the names of `GeneratorAndCritic`'s parameters in older checkpoints, and what they are now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversarialConfig:
    """Settings of Self Forcing against a discriminator of whole videos (BlockVid Eq. 1)."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of the videos that the discriminator sees."""
    weight: float = 0.05
    """Weight of Eq. 1 in the generator's loss; the loss on real videos has `fidelity_weight`."""
    form: Literal["non_saturating", "relativistic"] = "relativistic"
    """Form of Eq. 1, see `forcing_losses.discriminator_loss`."""
    penalty: float = 0.1
    """Weight of R1 and of R2, each estimated from a random step."""
    sigma: float = 0.05
    """Length of that step."""
    width: int = 96
    """Width of the discriminator."""
    layers: int = 2
    """Number of layers of the discriminator."""
    critic_steps: int = 1
    """Steps of the discriminator before each step of the generator."""
    critic_rate: float = 2.0
    """Learning rate of the discriminator, as a multiple of the generator's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """Settings of distillation to a student of a few steps, by distribution matching or score identity."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of the student's videos; the student will be sampled with their number of steps."""
    weight: float = 1.0
    """Weight of the scores in the student's loss."""
    score: Literal["dmd", "sid"] = "dmd"
    """`distribution_matching_loss` or `score_identity_loss`."""
    guidance: float = 2.0
    """Guidance of the teacher; the student learns it and is sampled without guidance."""
    copies: int = 2
    """Noisy copies of a generated chunk that teacher and critic see."""
    critic_steps: int = 4
    """Steps of the critic before each step of the student."""
    critic_rate: float = 1.0
    """Learning rate of the critic, as a multiple of the student's."""


class GeneratorAndCritic(nn.Module):
    """A transformer in training and its critic, as one module.

    Args:
        generator: the transformer.
        critic: what its videos are compared by.
    """

    def __init__(self, generator: ChunkDiT, critic: nn.Module) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic


@runtime_checkable
class AdversarialObjective(Protocol):
    """The losses of generator and critic. Each first draws its window from the `torch.Generator`, then all else."""

    @property
    def config(self) -> AdversarialConfig | DistillationConfig:
        """The settings."""
        ...

    @property
    def data(self) -> TrainingData:
        """The stories that roll-outs start from."""
        ...

    def generator_loss(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Loss:
        """Compute the loss of a step that trains the generator."""
        ...

    def critic_loss(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Loss:
        """Compute the loss of a step that trains the critic."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorObjective:
    """Self Forcing against a discriminator that sees real videos and the generator's (BlockVid Eq. 1)."""

    config: AdversarialConfig
    data: TrainingData

    @classmethod
    def make_pair(cls, model: ChunkDiT, config: AdversarialConfig) -> GeneratorAndCritic:
        """Put a model and a new discriminator together."""
        critic = VideoDiscriminator(model.config.out_channels, width=config.width, num_layers=config.layers)
        return GeneratorAndCritic(model, critic)

    def generator_loss(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Loss:
        """Compute the generator's side of Eq. 1 on a roll-out."""
        window = Window.draw(self.data.stories, self.config.rollout.chunks, generator=generator)
        rollout = self.data.roll_out(pair.generator, self.config.rollout, window)
        real = pair.critic(rollout.real) if self.config.form == "relativistic" else None
        loss = generator_loss(pair.critic(rollout.generated), real, form=self.config.form)
        return loss, {"adversarial": loss.item()}

    def critic_loss(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Loss:
        """Compute the discriminator's side of Eq. 1, with penalties."""
        config, critic = self.config, pair.critic
        window = Window.draw(self.data.stories, config.rollout.chunks, generator=generator)
        with torch.no_grad():
            rollout = self.data.roll_out(pair.generator, config.rollout, window)
        real, generated = critic(rollout.real), critic(rollout.generated)
        loss = discriminator_loss(real, generated, form=config.form)
        figures = {"critic": loss.item(), "critic_gap": (real - generated).mean().item()}
        for video in (rollout.real, rollout.generated):
            loss = loss + config.penalty * gradient_penalty(critic, video, sigma=config.sigma, generator=generator)
        return loss, figures


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationObjective:
    """Distillation of a frozen teacher, with a critic that learns what the student generates.

    Teacher and critic see a generated chunk in the form they were trained on: in a batch, under the generated past
    chunks that it saw.
    """

    config: DistillationConfig
    data: TrainingData
    teacher: ChunkDiT

    @classmethod
    def make_pair(cls, model: ChunkDiT, teacher: ChunkDiT) -> GeneratorAndCritic:
        """Put the student and a critic that starts as the teacher together."""
        critic = ChunkDiT(teacher.config)
        critic.load_state_dict(teacher.state_dict())
        critic.gradient_checkpointing = model.gradient_checkpointing
        return GeneratorAndCritic(model, critic)

    def generator_loss(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Loss:
        """Compute a loss whose gradient moves a roll-out to where teacher and critic agree."""
        config, critic_model = self.config, _transformer(pair.critic)
        batch = self._rollout_batch(pair, generator)

        def teacher(noisy: Tensor, level: Tensor) -> Tensor:
            conditional = self.data.velocity(self.teacher, _with_copies(batch, noisy))
            if config.guidance == 1.0:
                return conditional
            silent = replace(batch, text=torch.zeros_like(batch.text))
            null = self.data.velocity(self.teacher, _with_copies(silent, noisy))
            return null + config.guidance * (conditional - null)

        def critic(noisy: Tensor, level: Tensor) -> Tensor:
            return self.data.velocity(critic_model, _with_copies(batch, noisy))

        score = distribution_matching_loss if config.score == "dmd" else score_identity_loss
        loss = score(batch.clean, teacher, critic, noise=batch.noise, level=batch.target_levels)
        return loss, {"distillation": loss.item()}

    def critic_loss(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Loss:
        """Compute flow matching of the critic on the student's videos."""
        with torch.no_grad():
            batch = self._rollout_batch(pair, generator)
        velocity = self.data.velocity(_transformer(pair.critic), batch)
        loss, _ = fidelity_loss(velocity, batch, frames_per_chunk=self.data.stories.frames_per_chunk)
        return loss, {"critic": loss.item()}

    def _rollout_batch(self, pair: GeneratorAndCritic, generator: torch.Generator) -> Batch:
        config = self.config.rollout
        window = Window.draw(self.data.stories, config.chunks, generator=generator)
        rollout = self.data.roll_out(pair.generator, config, window)
        # gradients flow through the last chunks alone, so the target is one of them
        first = max(config.given, config.chunks - (config.last_chunks or config.chunks))
        return self.data.rollout_batch(rollout, window, given=first, copies=self.config.copies, generator=generator)


def _transformer(critic: nn.Module) -> ChunkDiT:
    """The critic of a distillation."""
    assert isinstance(critic, ChunkDiT)
    return critic


def _with_copies(batch: Batch, noisy: Float[Tensor, "b c t_target h w"]) -> Batch:
    """The batch with other noisy copies, behind a context without a graph."""
    context = batch.latents[:, :, : -noisy.shape[2]].detach()
    return replace(batch, latents=torch.cat((context, noisy), dim=2))
