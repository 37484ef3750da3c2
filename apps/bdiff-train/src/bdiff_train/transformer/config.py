"""What training the transformer is told."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bdiff.defaults import WEIGHTS, Sampling, policy
from bdiff_core import ModelConfig, tiny
from bdiff_train.data.story_pool import HELD_OUT
from bdiff_train.data.videos import VideoConfig
from bdiff_train.engine.guards import GuardConfig
from bdiff_train.transformer.adversarial import Adversarial, Distillation
from bdiff_train.transformer.batches import GatherConfig
from bdiff_train.transformer.loss import BlockForcing
from kvbank import Policy

_OF_STORIES = ("steps", "shift", "guidance", "seniority")
"""Settings of sampling in which a model of stories is as the shipped one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTrainConfig:
    """A training run of a `ChunkDiT` on stories."""

    recipe: str = "default"
    """Name of what returned this, for the record."""
    out: Path
    """Directory of checkpoint, log, curve, previews and weights."""
    vae: Path
    """Weights of the autoencoder."""
    stories: Path
    """Directory of the encoded stories; those missing are made."""
    minutes: float = 60.0
    """Time to train, all resumed parts together."""
    max_steps: int | None = None
    """Steps to train; None: as many as fit into the time."""
    model: ModelConfig = field(default_factory=tiny)
    """Sizes of the transformer."""
    start_from: Path | None = None
    """A transformer whose weights to begin with; None: random ones."""
    seed: int = 0
    """Of weights, batches and noise."""
    num_stories: int = 256
    """Stories to train on."""
    chunks_per_story: int = 25
    """Chunks of every story."""
    richness: int = 1
    """Of the stories."""
    videos: VideoConfig | None = None
    """Videos to train on instead of rendered stories; `num_stories`, `held_out_stories` and `richness` are unused."""
    held_out_stories: int = 8
    """Stories of evaluations while training."""
    schedule: str = "cosine"
    """Of the chunk levels, see ``noisesched.chunk_levels``."""
    level_min: float = 0.7
    """Level of the first chunk. At 0.5 new places, which mostly appear early, were hardly learned at high levels."""
    level_max: float = 0.83
    """Level of the last chunk."""
    policy: str = "semantic"
    """Which past chunks a target sees, by its name in `bdiff.defaults.policy`."""
    coverage: float | None = None
    """Share of attention that the tokens kept in the model's own films cover; None: the policy's. Gathers drop tokens
    at random instead, see `GatherConfig.token_drop`."""
    seniority: float = 0.0
    """Of the semantic policy while training, see `kvbank.SemanticSparse`."""
    num_sink: int = 0
    """Of the semantic policy: chunks from the start of a film that every target sees; `batch.context` holds them,
    too."""
    batch: GatherConfig = field(default_factory=GatherConfig)
    """Sizes and probabilities of a batch."""
    micro_batches: int = 1
    """Batches that a step averages the gradients of: accumulated, or divided among the ranks of torchrun."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of keeping what it computed."""
    block_forcing: BlockForcing | None = None
    """Eq. 5 beside flow matching; None: flow matching alone."""
    self_forcing: Adversarial | Distillation | None = None
    """A loss on the model's own films, in turns with their judge; None: real videos only."""
    fidelity_weight: float = 1.0
    """Of the loss of real videos beside that of the model's own films."""
    motion_weight: float = 5.0
    """Added to the weight 1 of latents that move within their chunk: the protagonist is a tenth of the picture."""
    learning_rate: float = 7e-4
    """Of AdamW, after warm-up."""
    orthogonal_learning_rate: float = 0.007
    """Of Muon, which trains the matrices of the blocks; 0: AdamW trains everything."""
    decay: tuple[tuple[float, float], ...] = ((0.4, 0.6), (0.55, 0.4), (0.7, 0.2), (0.82, 0.1), (0.92, 0.04))
    """(fraction of the run, factor) of the learning rate."""
    warmup_steps: int = 60
    """Steps of linear warm-up."""
    bfloat16: bool = False
    """Matrix products in bfloat16: faster on CPUs that have them (AVX512-BF16, AMX), slower on others."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Which steps are refused, and when that ends the run."""
    tensorboard: bool = False
    """Write the log as TensorBoard's events, too."""
    preview_minutes: float = 10.0
    """Between evaluations, each with a sheet of a held-out story."""
    preview_chunks: int = 12
    """Chunks of that story."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_stories <= HELD_OUT:
            raise ValueError(
                f"num_stories is {self.num_stories}; expected 1 to {HELD_OUT}, where held-out stories begin"
            )
        _ = self.memory
        if self.policy != "semantic" and (self.seniority or self.num_sink):
            raise ValueError(
                f"recipe {self.recipe} shows targets the first chunks of a film, by the semantic memory; leave out "
                f"--policy {self.policy}"
            )
        if self.chunks_per_story < 2:
            raise ValueError(f"chunks_per_story is {self.chunks_per_story}; expected at least 2")
        if self.batch.estimated_passes < 1:
            raise ValueError(f"estimated_passes is {self.batch.estimated_passes}; expected at least 1")
        if not 0 <= self.batch.tint < math.inf:
            raise ValueError(f"tint is {self.batch.tint}; expected a number from 0")
        if isinstance(self.self_forcing, Distillation) and self.start_from is None:
            raise ValueError(
                "distillation needs start_from: the transformer that teaches, and that the student begins as"
            )
        if self.fidelity_weight < 0 or (self.fidelity_weight != 1.0 and self.self_forcing is None):
            raise ValueError(
                f"fidelity_weight is {self.fidelity_weight}; expected at least 0 beside Self Forcing, and 1 without"
            )

    @property
    def memory(self) -> Policy:
        """Which past chunks a target sees.

        Raises:
            ValueError: If there is no such policy, or a setting of it is not valid.
        """
        return policy(self.policy, coverage=self.coverage, seniority=self.seniority, num_sink=self.num_sink)

    @property
    def sampling(self) -> dict[str, float]:
        """How the model will want to be sampled: the settings of its sampling.json.

        One of stories as the shipped one, which was trained on them, see its card.
        """
        if self.videos is None:
            shipped = Sampling.of_model(WEIGHTS)
            found: dict[str, float] = {name: getattr(shipped, name) for name in _OF_STORIES}
            found |= {"richness": self.richness}
        else:
            found = {name: getattr(self.videos, name) for name in ("fps", "height", "width", "latent_frames")}
        if self.num_sink:
            found["num_sink"] = self.num_sink
        if isinstance(self.self_forcing, Distillation):
            rollout = self.self_forcing.rollout
            found |= {"steps": rollout.steps, "shift": rollout.shift, "guidance": 1.0}
        return found
