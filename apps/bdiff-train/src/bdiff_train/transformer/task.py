"""What `fit` needs to know of training the transformer: losses, which part a step trains, and how far it is."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

import storyworld
from bdiff.defaults import Sampling
from bdiff_core import CausalVAE, ChunkDiT, ModelConfig, TextEncoder
from bdiff_core.costs import ChunkShape, pass_flops, text_flops
from bdiff_train.data.stories import StorySet
from bdiff_train.data.videos import Take
from bdiff_train.engine.log import Work
from bdiff_train.engine.loop import step_generator
from bdiff_train.transformer.adversarial import Game, Players, Stage
from bdiff_train.transformer.batches import Batch, make_batch
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.estimated_context import with_estimated_context
from bdiff_train.transformer.loss import copies_velocity, fidelity_loss
from bdiff_train.transformer.preview import write_preview
from bdiff_train.transformer.rollouts import Window

logger = logging.getLogger(__name__)

_PLAYER, _JUDGE = "model.", "judge."
"""Beginnings of the parameter names of `Players`."""

_JUDGE_DRAWS = 2**40
"""Numbers by which a judge's steps draw begin here, far from those of the player's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exam:
    """What evaluations look at."""

    stories: StorySet
    """Held out."""
    preview: storyworld.StoryVideo | Take
    """What previews tell."""
    vae: CausalVAE
    encoder: TextEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTask:
    """A training of the transformer."""

    config: ModelTrainConfig
    stage: Stage
    """The stories to train on, and how they are cut into batches."""
    exam: Exam | None = None
    """What evaluations look at; None: there are none."""
    game: Game | None = None
    """Self Forcing, if the recipe has it."""

    def part(self, step: int) -> str:
        """With a judge: its steps, then one of the player; otherwise everything in every step."""
        if self.game is None:
            return ""
        turn = step % (self.game.config.judge_steps + 1)
        return _PLAYER if turn == self.game.config.judge_steps else _JUDGE

    def draws(self, step: int) -> int:
        """The player's steps draw as the same number of steps without a judge would: the same real videos."""
        if self.game is None:
            return step
        turn, place = divmod(step, self.game.config.judge_steps + 1)
        return turn if place == self.game.config.judge_steps else _JUDGE_DRAWS + step

    def loss(
        self, module: nn.Module, step: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
        """Of a micro-batch: fidelity to real videos (+ Eq. 5), + weight * Self Forcing; in its steps, the judge's."""
        if self.game is None:
            return self._fidelity(module, self._training_batch(module, generator))
        assert isinstance(module, Players)
        films = films_generator(generator)
        if self.part(step) == _JUDGE:
            return self.game.judge_loss(module, films)
        played, figures = self.game.player_loss(module, films)
        loss = self.game.config.weight * played
        if self.config.fidelity_weight:
            true, more = self._fidelity(module.model, self._training_batch(module.model, generator))
            loss = loss + self.config.fidelity_weight * true
            figures = {"fidelity": true.item(), **figures, **more}
        return loss, figures

    def batch_name(self, step: int, generator: torch.Generator) -> Mapping[str, object]:
        """Stories and target chunks of a micro-batch, and the windows of films."""
        if self.game is None:
            batch = self._batch(self.stage.stories, generator)
            return {"stories": list(batch.stories), "chunks": list(batch.targets)}
        chunks = self.game.config.rollout.chunks
        window = Window.draw(self.stage.stories, chunks, generator=films_generator(generator))
        return {"stories": [window.story], "chunks": list(range(window.start, window.start + chunks)), "film": True}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """The loss on fixed batches of held-out stories; a preview beside it."""
        exam, model = self.exam, module.model if isinstance(module, Players) else module
        assert exam is not None
        losses = []
        for k in range(8):
            batch = self._batch(exam.stories, step_generator(self.config.seed + 1, k))
            losses.append(self._fidelity(model, batch)[0].item())
        seen, path = self.config.memory, self.config.out / "preview.png"
        write_preview(
            model, exam.vae, exam.encoder, story=exam.preview, policy=seen, sampling=self._sampling, path=path
        )
        figures = {"held_out_loss": math.fsum(losses) / len(losses)}
        logger.info("%s", figures)
        return figures

    def work(self, model: ModelConfig, *, rate: float) -> Work:
        """What a micro-batch comes to; with films it is the mean of player's and judge's steps, and only of tokens."""
        batch, (height, width) = self.config.batch, self.stage.stories.latents.shape[-2:]
        places = batch.context + batch.copies
        shape = ChunkShape(frames=places * self.stage.stories.frames_per_chunk, height=height, width=width)
        tokens = batch.stories * places * self.stage.tokens_per_chunk
        if self.game is None:
            flops = 3 * batch.stories * (pass_flops(model, shape) + places * text_flops(model))
            return Work(tokens=tokens, flops=flops, rate=rate)
        rollout = self.game.config.rollout
        passes = (rollout.chunks - rollout.given) * (rollout.steps + 1) / 2 + rollout.chunks
        share = bool(self.config.fidelity_weight) / (self.game.config.judge_steps + 1)
        return Work(tokens=round(passes * self.stage.tokens_per_chunk + share * tokens))

    @property
    def _sampling(self) -> Sampling:
        """How previews are made: as the model will be sampled."""
        return replace(Sampling(latent_frames=self.stage.stories.frames_per_chunk), **self.config.sampling)

    def _training_batch(self, model: ChunkDiT, generator: torch.Generator) -> Batch:
        """A batch of the stories; some samples see what the model makes of their context."""
        config, device = self.config.batch, next(model.parameters()).device
        batch = self._batch(self.stage.stories, generator).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.bfloat16):
            return with_estimated_context(
                model,
                batch,
                share=config.estimated_share,
                passes=config.estimated_passes,
                tint=config.tint,
                frames_per_chunk=self.stage.stories.frames_per_chunk,
                generator=generator,
            )

    def _batch(self, stories: StorySet, generator: torch.Generator) -> Batch:
        forcing = self.config.block_forcing
        return make_batch(
            stories,
            self.stage.levels,
            self.stage.policy,
            config=self.config.batch,
            tokens_per_chunk=self.stage.tokens_per_chunk,
            generator=generator,
            reference_chunks=forcing.top_l if forcing else 0,
        )

    def _fidelity(self, model: ChunkDiT, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        length = self.stage.stories.frames_per_chunk
        batch = batch.to(next(model.parameters()).device)
        velocity = copies_velocity(model, batch, frames_per_chunk=length, bfloat16=self.config.bfloat16)
        return fidelity_loss(
            velocity,
            batch,
            frames_per_chunk=length,
            motion=self.config.motion_weight,
            block_forcing=self.config.block_forcing,
        )


def films_generator(generator: torch.Generator) -> torch.Generator:
    """The generator of a micro-batch's films, beside that of its real videos: neither depends on the other's draws."""
    return torch.Generator().manual_seed(generator.initial_seed() ^ 1)
