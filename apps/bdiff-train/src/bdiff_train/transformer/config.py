"""Settings of a training of the transformer."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bdiff import Sampling, defaults
from bdiff_core import ModelConfig, tiny
from bdiff_train.data.stories import HELD_OUT, LATENT_FRAMES, LEAST_LATENT_FRAMES, check_takes
from bdiff_train.data.videos import VideoConfig
from bdiff_train.engine.guards import GuardConfig
from bdiff_train.transformer.adversarial import AdversarialConfig, DistillationConfig
from bdiff_train.transformer.batches import BatchConfig
from bdiff_train.transformer.loss import BlockForcingConfig
from kvbank import Policy

_AS_SHIPPED = ("steps", "shift", "guidance", "age_bonus")
"""Settings of sampling that a model of stories takes from the shipped model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTrainConfig:
    """Settings of a training of a `ChunkDiT` on stories or videos."""

    recipe: str = "default"
    """Name of the recipe that made this config; it is written to the record."""
    out: Path
    """Folder of checkpoint, log, curve, previews and weights."""
    vae: Path
    """Weights of the autoencoder."""
    stories: Path
    """Folder of the encoded stories; missing ones are made."""
    minutes: float = 60.0
    """Time to train, resumed parts included."""
    max_steps: int | None = None
    """Steps to train, resumed parts included; None: as many as fit into the time."""
    model: ModelConfig = field(default_factory=tiny)
    """Sizes of the transformer."""
    start_from: Path | None = None
    """A transformer whose weights to start from; None: random ones."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    num_stories: int = 256
    """Number of stories to train on, of each kind of `takes`. In memory they lie kind by kind."""
    chunks_per_story: int = 25
    """Number of chunks of each story."""
    latent_frames: int = LATENT_FRAMES
    """Latent frames of a chunk, four frames each; the first chunk has 3 frames fewer."""
    richness: int = 1
    """How much there is to see in the stories, see ``storyworld.render``."""
    takes: tuple[str, ...] = ("story",)
    """Kinds of takes, of ``storyworld.TAKES``; other kinds than story exist at richness 2 alone. Previews show the
    first."""
    videos: VideoConfig | None = None
    """Videos to train on instead of rendered stories. Then `num_stories`, `held_out_stories`, `latent_frames`,
    `richness` and `takes` are unused."""
    held_out_stories: int = 8
    """Number of stories in evaluations, of each kind of `takes`."""
    schedule: Literal["naive", "linear", "cosine", "sigmoid"] = "cosine"
    """Schedule of the chunk levels, see ``noisesched.chunk_levels``."""
    level_min: float = 0.7
    """Level of the first chunk. At 0.5, new places, which mostly appear early, were hardly learned at high levels."""
    level_max: float = 0.83
    """Level of the last chunk."""
    policy: str = "semantic"
    """Which past chunks a target sees: a name of ``bdiff.defaults.policy``."""
    more_policies: tuple[str, ...] = ()
    """Further such names. Then the policy of each sample is drawn uniformly from all of them, so that the model is at
    home with none. Previews and roll-outs have `policy`, which `coverage` is of, too."""
    coverage: float | None = None
    """Share of attention that the kept tokens cover in the model's own videos; None: the policy's. Batches drop tokens
    at random instead, see `BatchConfig.token_drop`."""
    age_bonus: float = 0.0
    """How much the semantic policy prefers a place's first visits while training, see `kvbank.SemanticSparse`; other
    policies do without."""
    num_sink: int = 0
    """Chunks from the start of a video that the semantic policy shows every target; `batch.context` must have places
    for them, too."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Sizes and probabilities of a batch."""
    micro_batches: int = 1
    """Batches whose gradients a step averages: accumulated, or divided among the ranks of torchrun."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of keeping its activations."""
    block_forcing: BlockForcingConfig | None = None
    """Eq. 5 beside flow matching; None: flow matching alone."""
    self_forcing: AdversarialConfig | DistillationConfig | None = None
    """A loss on the model's own videos, whose critic is trained in turns with the model; None: real videos only."""
    fidelity_weight: float = 1.0
    """Weight of the loss on real videos, beside that on the model's own videos."""
    motion_weight: float = 5.0
    """Added to the weight 1 of latents that move within their chunk: the protagonist covers a tenth of the frame."""
    learning_rate: float = 7e-4
    """Learning rate of AdamW after warm-up."""
    orthogonal_learning_rate: float = 0.007
    """Learning rate of Muon, which trains the matrices of the blocks; 0: AdamW trains everything."""
    decay: tuple[tuple[float, float], ...] = ((0.4, 0.6), (0.55, 0.4), (0.7, 0.2), (0.82, 0.1), (0.92, 0.04))
    """(fraction of the run, factor): from there on learning rates are multiplied by the factor."""
    warmup_steps: int = 60
    """Steps of linear warm-up."""
    bfloat16: bool = False
    """Matrix products in bfloat16: faster on CPUs that have them (AVX512-BF16, AMX), slower on others."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Which steps are refused, and how many of them end the run."""
    tensorboard: bool = False
    """Also write the log as TensorBoard events."""
    preview_minutes: float = 10.0
    """Training time between evaluations, each of which draws a preview of a held-out story."""
    preview_chunks: int = 12
    """Number of chunks of the preview."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_stories <= HELD_OUT:
            raise ValueError(
                f"num_stories is {self.num_stories}; expected 1 to {HELD_OUT}, where held-out stories begin"
            )
        check_takes(self.takes, self.richness)
        if self.videos is None and self.latent_frames < LEAST_LATENT_FRAMES:
            raise ValueError(f"latent_frames is {self.latent_frames}; expected at least {LEAST_LATENT_FRAMES}")
        if self.chunks_per_story < 2:
            raise ValueError(f"chunks_per_story is {self.chunks_per_story}; expected at least 2")
        self._check_policies()
        if self.batch.estimated_passes < 1:
            raise ValueError(f"estimated_passes is {self.batch.estimated_passes}; expected at least 1")
        if not 0 <= self.batch.tint < math.inf:
            raise ValueError(f"tint is {self.batch.tint}; expected a number from 0")
        if isinstance(self.self_forcing, DistillationConfig) and self.start_from is None:
            raise ValueError("distillation needs start_from: the transformer that is the teacher and the first student")
        if self.fidelity_weight < 0 or (self.fidelity_weight != 1.0 and self.self_forcing is None):
            raise ValueError(
                f"fidelity_weight is {self.fidelity_weight}; expected at least 0 beside Self Forcing, and 1 without"
            )

    def _check_policies(self) -> None:
        names, memories, places = (self.policy, *self.more_policies), self.memories, self.batch.context
        if "semantic" not in names and (self.age_bonus or self.num_sink):
            raise ValueError(
                f"recipe {self.recipe} shows targets the first chunks of a video, which only the semantic memory does; "
                f"leave out --policy {','.join(names)}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"policies are {','.join(names)}; expected each once, because all are drawn equally often")
        past = self.chunks_per_story - 1
        for name, memory in zip(names, memories, strict=True):
            if (most := len(memory.select(past, [0.0] * past))) > places:
                raise ValueError(f"policy {name} shows {most} chunks; BatchConfig.context is {places}")

    @property
    def memory(self) -> Policy:
        """Which past chunks a target sees in previews and roll-outs, and in batches if there are no more policies.

        Raises:
            ValueError: If there is no such policy, or a setting of it is not valid.
        """
        return defaults.policy(self.policy, coverage=self.coverage, age_bonus=self.age_bonus, num_sink=self.num_sink)

    @property
    def memories(self) -> tuple[Policy, ...]:
        """`memory`, and the further policies that samples draw from.

        Raises:
            ValueError: If there is no such policy, or a setting of one is not valid.
        """
        semantic: dict[str, Any] = {"age_bonus": self.age_bonus, "num_sink": self.num_sink}
        return (self.memory, *(defaults.policy(name, **semantic) for name in self.more_policies))

    @property
    def sampling(self) -> dict[str, Any]:
        """How the model is to be sampled: the settings that go into its ``sampling.json``.

        A model of stories takes steps, shift, guidance and age bonus from the shipped model. One that was trained for
        several memories has no age bonus.
        """
        if self.videos is None:
            shipped = Sampling.of_model(defaults.WEIGHTS)
            found = {name: getattr(shipped, name) for name in _AS_SHIPPED} | {"richness": self.richness}
            if self.latent_frames != LATENT_FRAMES:
                found["latent_frames"] = self.latent_frames
            if self.more_policies:
                found["age_bonus"] = 0.0  # it was not trained with, and favours the semantic memory
        else:
            found = {name: getattr(self.videos, name) for name in ("fps", "height", "width", "latent_frames")}
        if self.num_sink:
            found["num_sink"] = self.num_sink
        if isinstance(self.self_forcing, DistillationConfig):
            rollout = self.self_forcing.rollout
            found |= {"steps": rollout.steps, "shift": rollout.shift, "guidance": 1.0}
        return found
