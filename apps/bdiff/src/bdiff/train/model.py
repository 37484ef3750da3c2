"""Training the transformer on stories: flow matching on a chunk under the context its memory would show."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bdiff.defaults import policy
from bdiff.train.gather import Batch, GatherConfig, make_batch
from bdiff.train.preview import PREVIEW_STORY, write_preview
from bdiff.train.run import RunConfig, RunResult, fit, step_generator
from bdiff.train.stories import StorySet, load_stories, prepare_stories
from bdiff.train.vae import HELD_OUT
from bdiff_core import (
    CausalVAE,
    ChunkDiT,
    ModelConfig,
    SentenceTextEncoder,
    TextEncoder,
    load_transformer,
    load_vae,
    save_transformer,
    tiny,
)
from forcing_losses import flow_matching_loss
from lvbench import storyworld
from noisesched import chunk_levels

logger = logging.getLogger(__name__)

_MOTION = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTrainConfig:
    """A training run of a `ChunkDiT` on stories."""

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
    batch: GatherConfig = field(default_factory=GatherConfig)
    """Sizes and probabilities of a batch."""
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
    preview_minutes: float = 10.0
    """Between evaluations, each with a sheet of a held-out story."""
    preview_chunks: int = 12
    """Chunks of that story."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_stories <= HELD_OUT:
            raise ValueError(
                f"num_stories is {self.num_stories}; expected 1 to {HELD_OUT}, where held-out stories begin"
            )
        policy(self.policy)
        if self.chunks_per_story < 2:
            raise ValueError(f"chunks_per_story is {self.chunks_per_story}; expected at least 2")


def train_model(config: ModelTrainConfig) -> RunResult:
    """Train a transformer, or go on training it, and write its weights in half precision.

    Also written: ``log.jsonl``, ``curve.png``, ``preview.png`` (truth above a generated story), ``recipe.json``
    and the checkpoint to go on from.

    Returns:
        Steps, seconds and the loss on held-out stories.
    """
    vae = load_vae(config.vae)
    encoder = SentenceTextEncoder(text_length=config.model.text_length)
    shared = {"folder": config.stories, "num_chunks": config.chunks_per_story, "richness": config.richness}
    watched = range(HELD_OUT, HELD_OUT + config.held_out_stories)
    held_out = load_stories(prepare_stories(vae, watched, **shared), encoder)
    shards = prepare_stories(vae, range(config.num_stories), on_story=_log_stories(config.num_stories), **shared)
    stories = load_stories(shards, encoder)
    torch.manual_seed(config.seed)
    model = load_transformer(config.start_from, dtype=torch.float32) if config.start_from else ChunkDiT(config.model)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "recipe.json").write_text(json.dumps(asdict(config), default=str, indent=2) + "\n", encoding="utf-8")
    task = _Task(config=config, stories=stories, held_out=held_out, vae=vae, encoder=encoder)
    result = fit(
        model,
        RunConfig(
            out=config.out,
            minutes=config.minutes,
            max_steps=config.max_steps,
            seed=config.seed,
            learning_rate=config.learning_rate,
            orthogonal_learning_rate=config.orthogonal_learning_rate,
            orthogonal_dtype=torch.bfloat16 if config.bfloat16 else torch.float32,
            decay=config.decay,
            warmup_steps=config.warmup_steps,
            evaluate_minutes=config.preview_minutes,
        ),
        loss=task.loss,
        evaluate=task.evaluate,
        orthogonal=_matrices(model) if config.orthogonal_learning_rate else [],
    )
    save_transformer(model.half(), config.out / "transformer")
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What `fit` needs to know of this training."""

    config: ModelTrainConfig
    stories: StorySet
    held_out: StorySet
    vae: CausalVAE
    encoder: TextEncoder

    def loss(
        self, model: nn.Module, step: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
        """Flow-matching loss of a batch."""
        batch = self._batch(self.stories, generator)
        return self._flow_matching(model, batch), {}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """The loss on fixed batches of held-out stories; a preview beside it."""
        losses = [
            self._flow_matching(model, self._batch(self.held_out, step_generator(self.config.seed + 1, k))).item()
            for k in range(8)
        ]
        story = storyworld.render(PREVIEW_STORY, self.config.preview_chunks, richness=self.config.richness)
        seen, path = policy(self.config.policy), self.config.out / "preview.png"
        write_preview(model, self.vae, self.encoder, story=story, policy=seen, path=path)
        figures = {"held_out_loss": math.fsum(losses) / len(losses)}
        logger.info("%s", figures)
        return figures

    def _batch(self, stories: StorySet, generator: torch.Generator) -> Batch:
        config = self.config
        return make_batch(
            stories,
            chunk_levels(stories.num_chunks, config.schedule, level_min=config.level_min, level_max=config.level_max),
            policy(config.policy),
            config=config.batch,
            tokens_per_chunk=config.model.num_tokens(stories.frames_per_chunk, *stories.latents.shape[-2:]),
            generator=generator,
        )

    def _flow_matching(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        per_chunk = self.stories.frames_per_chunk
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
            velocity = model(batch.latents, batch.levels, batch.text, frames_per_chunk=per_chunk, gather=batch.gather)
        target_frames = batch.clean.shape[2]
        weight = motion_weight(batch.clean, frames_per_chunk=per_chunk, strength=self.config.motion_weight)
        return flow_matching_loss(velocity[:, :, -target_frames:].float(), batch.clean, batch.noise, weight=weight)


def motion_weight(
    clean: Float[Tensor, "b c t h w"], *, frames_per_chunk: int, strength: float
) -> Float[Tensor, "b 1 t h w"]:
    """Weight of every latent: 1 where a chunk stands still, up to ``1 + strength`` where it moves; 1 on average.

    Motion is the mean square over channels of the distance to the chunk's median frame; half of the strength is reached
    at `_MOTION`, about a tenth of the variance of latents.

    Args:
        clean: Latents of whole chunks.
        frames_per_chunk: Latent frames of a chunk.
        strength: Weight of motion; 0 weighs all alike.
    """
    chunks = clean.unflatten(2, (-1, frames_per_chunk))
    motion = (chunks - chunks.median(3, keepdim=True).values).square().mean(1, keepdim=True).flatten(2, 3)
    weight = 1 + strength * motion / (motion + _MOTION)
    return weight / weight.mean()


def _matrices(model: ChunkDiT) -> list[nn.Parameter]:
    return [p for name, p in model.blocks.named_parameters() if name.endswith("weight") and p.ndim == 2]


def _log_stories(total: int) -> Callable[[int], None]:
    def log(ready: int) -> None:
        if ready % 32 == 0 or ready >= total:
            logger.info("%d of %d stories encoded", ready, total)

    return log
