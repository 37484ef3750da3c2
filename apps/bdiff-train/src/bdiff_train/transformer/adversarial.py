"""Self Forcing as training: a player tells films, a judge is trained beside it, and they take turns.

Both are parts of one module, `Players`, so that the one loop, its checkpoints and its averages serve them as they
serve a single model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_core import ChunkDiT
from bdiff_train.data.stories import StorySet
from bdiff_train.transformer.batches import Batch, GatherConfig, make_batch
from bdiff_train.transformer.loss import copies_velocity, fidelity_loss
from bdiff_train.transformer.rollouts import Film, RolloutConfig, Window, roll_out
from forcing_losses import (
    VideoDiscriminator,
    discriminator_loss,
    distribution_matching_loss,
    generator_loss,
    gradient_penalty,
    score_identity_loss,
)
from kvbank import Policy

Loss = tuple[Float[Tensor, ""], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adversarial:
    """Self Forcing against a discriminator of whole videos (BlockVid Eq. 1)."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Of the films that are judged."""
    weight: float = 0.05
    """Of the game in the player's loss; fidelity has `fidelity_weight`."""
    form: Literal["non_saturating", "relativistic"] = "relativistic"
    """See `forcing_losses.discriminator_loss`."""
    penalty: float = 0.1
    """Of R1 and R2, each estimated from a random step."""
    sigma: float = 0.05
    """Length of that step."""
    width: int = 96
    """Of the discriminator."""
    layers: int = 2
    """Of the discriminator."""
    judge_steps: int = 1
    """Steps of the discriminator before each of the player's."""
    judge_rate: float = 2.0
    """Its learning rate, in those of the player."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """A few-step student of the model that training starts from, by distribution matching or score identity."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Of the student's films; `steps` are what the student will be sampled with."""
    weight: float = 1.0
    """Of the scores in the player's loss."""
    score: Literal["dmd", "sid"] = "dmd"
    """`distribution_matching_loss` or `score_identity_loss`."""
    guidance: float = 2.0
    """Of the teacher; the student learns it and is sampled without."""
    copies: int = 2
    """Noisy copies of the chunk that teacher and critic look at."""
    judge_steps: int = 4
    """Steps of the critic before each of the student's."""
    judge_rate: float = 1.0
    """Its learning rate, in those of the student."""


class Players(nn.Module):
    """Who is trained, and who judges."""

    def __init__(self, model: ChunkDiT, judge: nn.Module) -> None:
        super().__init__()
        self.model, self.judge = model, judge


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Where films come from and how they are cut into batches."""

    stories: StorySet
    levels: Float[Tensor, " chunks"]
    """Noise level of every chunk of a story."""
    policy: Policy
    batch: GatherConfig
    tokens_per_chunk: int
    bfloat16: bool

    def film(self, model: ChunkDiT, rollout: RolloutConfig, window: Window) -> Film:
        """What the model makes of a window."""
        return roll_out(model, self.stories, window, config=rollout, policy=self.policy, bfloat16=self.bfloat16)

    def film_batch(self, film: Film, window: Window, *, given: int, copies: int, generator: torch.Generator) -> Batch:
        """A gather batch of a generated chunk under the generated past that it saw."""
        levels = self.levels[window.start : window.start + film.story.num_chunks]
        plain = replace(
            self.batch, stories=1, copies=copies, early_share=0.0, text_dropout=0.0, token_drop=0.0, context_noise=0.0
        )
        return make_batch(
            film.story,
            levels,
            self.policy,
            config=plain,
            tokens_per_chunk=self.tokens_per_chunk,
            generator=generator,
            first_target=given,
        ).to(film.made.device)

    def velocity(self, model: ChunkDiT, batch: Batch) -> Float[Tensor, "b c t_target h w"]:
        """Of the noisy copies of a batch."""
        return copies_velocity(model, batch, frames_per_chunk=self.stories.frames_per_chunk, bfloat16=self.bfloat16)


class Game(Protocol):
    """What the trainer asks of either way to judge films. Each first draws its window, then everything else."""

    config: Adversarial | Distillation

    def player_loss(self, players: Players, generator: torch.Generator) -> Loss:
        """What the player minimises in its steps."""
        ...

    def judge_loss(self, players: Players, generator: torch.Generator) -> Loss:
        """What the judge minimises in its own."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversarialGame:
    """Against a discriminator that sees real films and the player's."""

    config: Adversarial
    stage: Stage

    @classmethod
    def players(cls, model: ChunkDiT, config: Adversarial) -> Players:
        """The model and a new discriminator."""
        judge = VideoDiscriminator(model.config.out_channels, width=config.width, num_layers=config.layers)
        return Players(model, judge)

    def player_loss(self, players: Players, generator: torch.Generator) -> Loss:
        """The generator's side of Eq. 1 on a film."""
        window = Window.draw(self.stage.stories, self.config.rollout.chunks, generator=generator)
        film = self.stage.film(players.model, self.config.rollout, window)
        real = players.judge(film.real) if self.config.form == "relativistic" else None
        loss = generator_loss(players.judge(film.made), real, form=self.config.form)
        return loss, {"game": loss.item()}

    def judge_loss(self, players: Players, generator: torch.Generator) -> Loss:
        """The discriminator's side, with penalties."""
        config, judge = self.config, players.judge
        window = Window.draw(self.stage.stories, config.rollout.chunks, generator=generator)
        with torch.no_grad():
            film = self.stage.film(players.model, config.rollout, window)
        real, made = judge(film.real), judge(film.made)
        loss = discriminator_loss(real, made, form=config.form)
        figures = {"judge": loss.item(), "judge_gap": (real - made).mean().item()}
        for video in (film.real, film.made):
            loss = loss + config.penalty * gradient_penalty(judge, video, sigma=config.sigma, generator=generator)
        return loss, figures


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationGame:
    """Against a frozen teacher, with a critic that learns what the student makes.

    Both judge a generated chunk as they were trained: in a gather batch, under the past chunks that it saw.
    """

    config: Distillation
    stage: Stage
    teacher: ChunkDiT

    @classmethod
    def players(cls, model: ChunkDiT, teacher: ChunkDiT) -> Players:
        """The student and a critic that begins as the teacher."""
        judge = ChunkDiT(teacher.config)
        judge.load_state_dict(teacher.state_dict())
        judge.gradient_checkpointing = model.gradient_checkpointing
        return Players(model, judge)

    def player_loss(self, players: Players, generator: torch.Generator) -> Loss:
        """What teacher and critic say of a film: a gradient towards where they would agree."""
        config = self.config
        batch = self._film_batch(players, generator)

        def teacher(noisy: Tensor, level: Tensor) -> Tensor:
            said = self.stage.velocity(self.teacher, _with_copies(batch, noisy))
            if config.guidance == 1.0:
                return said
            silent = replace(batch, text=torch.zeros_like(batch.text))
            null = self.stage.velocity(self.teacher, _with_copies(silent, noisy))
            return null + config.guidance * (said - null)

        def critic(noisy: Tensor, level: Tensor) -> Tensor:
            return self.stage.velocity(players.judge, _with_copies(batch, noisy))

        score = distribution_matching_loss if config.score == "dmd" else score_identity_loss
        loss = score(batch.clean, teacher, critic, noise=batch.noise, level=batch.target_levels)
        return loss, {"game": loss.item()}

    def judge_loss(self, players: Players, generator: torch.Generator) -> Loss:
        """Flow matching of the critic on the student's films."""
        with torch.no_grad():
            batch = self._film_batch(players, generator)
        velocity = self.stage.velocity(players.judge, batch)
        loss, _ = fidelity_loss(velocity, batch, frames_per_chunk=self.stage.stories.frames_per_chunk)
        return loss, {"judge": loss.item()}

    def _film_batch(self, players: Players, generator: torch.Generator) -> Batch:
        rollout = self.config.rollout
        window = Window.draw(self.stage.stories, rollout.chunks, generator=generator)
        film = self.stage.film(players.model, rollout, window)
        # With gradients through the last chunks only, one of those is looked at.
        first = max(rollout.given, rollout.chunks - (rollout.last_chunks or rollout.chunks))
        return self.stage.film_batch(film, window, given=first, copies=self.config.copies, generator=generator)


def _with_copies(batch: Batch, noisy: Float[Tensor, "b c t_target h w"]) -> Batch:
    """The batch with other noisy copies behind a context without a graph."""
    context = batch.latents[:, :, : -noisy.shape[2]].detach()
    return replace(batch, latents=torch.cat((context, noisy), dim=2))
