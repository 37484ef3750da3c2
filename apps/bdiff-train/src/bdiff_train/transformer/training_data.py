"""The stories that a transformer is trained on, and how they become batches and roll-outs."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core import ChunkDiT
from bdiff_train.data.stories import StorySet
from bdiff_train.transformer.batches import Batch, BatchConfig, make_batch
from bdiff_train.transformer.loss import copies_velocity
from bdiff_train.transformer.rollouts import Rollout, RolloutConfig, Window, roll_out
from kvbank import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """Stories, and how batches and roll-outs are made of them."""

    stories: StorySet
    """The stories to train on."""
    levels: Float[Tensor, " chunks"]
    """Noise level of each chunk of a story."""
    policies: tuple[Policy, ...]
    """Which past chunks a chunk sees: each sample of a batch draws one of them, roll-outs have the first."""
    batch: BatchConfig
    """Sizes and probabilities of a batch."""
    tokens_per_chunk: int
    """Tokens of a chunk in the transformer."""
    bfloat16: bool
    """Matrix products in bfloat16."""

    @property
    def policy(self) -> Policy:
        """The policy of roll-outs: the first."""
        return self.policies[0]

    def roll_out(self, model: ChunkDiT, config: RolloutConfig, window: Window) -> Rollout:
        """Let a model generate a window of a story."""
        return roll_out(model, self.stories, window, config=config, policy=self.policy, bfloat16=self.bfloat16)

    def rollout_batch(
        self, rollout: Rollout, window: Window, *, given: int, copies: int, generator: torch.Generator
    ) -> Batch:
        """Make a batch of one generated chunk under the generated past that it saw.

        Args:
            rollout: The generated video.
            window: The part of a story that it is.
            given: The first chunk that may be the target.
            copies: Noisy copies of the target.
            generator: The generator of all draws.
        """
        levels = self.levels[window.start : window.start + rollout.story.num_chunks]
        plain = replace(
            self.batch, stories=1, copies=copies, early_share=0.0, text_dropout=0.0, token_drop=0.0, context_noise=0.0
        )
        return make_batch(
            rollout.story,
            levels,
            self.policy,
            config=plain,
            tokens_per_chunk=self.tokens_per_chunk,
            generator=generator,
            first_target=given,
        ).to(rollout.generated.device)

    def velocity(self, model: ChunkDiT, batch: Batch) -> Float[Tensor, "b c t_target h w"]:
        """Compute the velocity of the noisy copies of a batch."""
        return copies_velocity(model, batch, frames_per_chunk=self.stories.frames_per_chunk, bfloat16=self.bfloat16)
