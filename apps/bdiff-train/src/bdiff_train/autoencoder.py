"""Training of the small autoencoder on stories or videos, and its evaluation.

Clips are cut from the stories at random times. The loss is absolute plus squared error. Noise on the latents, and a
small weight on their Kullback-Leibler divergence from unit noise, make them smooth enough for a diffusion model.
Evaluations do what sampling does: they encode and decode whole held-out stories chunk by chunk.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from bdiff.run import keep_freed_memory
from bdiff_core.files import whole_file
from bdiff_core.vae import CausalVAE, VAEConfig, save_vae
from bdiff_train.data.pools import FramePool, StoryPool, VideoPool
from bdiff_train.data.stories import HELD_OUT, LATENT_FRAMES, LEAST_LATENT_FRAMES, check_takes, chunk_frames
from bdiff_train.data.videos import VideoConfig
from bdiff_train.engine.config import Loss, RunConfig, RunResult, Task
from bdiff_train.engine.distributed import require_one_process
from bdiff_train.engine.loop import fit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class VAETrainConfig:
    """Settings of a training of a `CausalVAE` on stories or videos."""

    out: Path
    """Folder of checkpoint, log, curve, samples and weights."""
    minutes: float = 25.0
    """Time to train, resumed parts included."""
    max_steps: int | None = None
    """Steps to train, resumed parts included; None: as many as fit into the time."""
    model: VAEConfig = field(default_factory=VAEConfig)
    """Sizes of the autoencoder."""
    seed: int = 0
    """Seed of weights, clips and noise."""
    batch_size: int = 4
    """Number of clips a step."""
    clip_frames: int = 17
    """Number of frames of a clip, 4n - 3."""
    num_stories: int = 400
    """Number of stories to train on, of each kind of `takes`."""
    chunks_per_story: int = 10
    """Number of chunks of the stories to train on; ten take 2.4 MB of memory."""
    latent_frames: int = LATENT_FRAMES
    """Latent frames of a story's chunk; a walk moves as far in a chunk, so it is slower in a longer one."""
    measured_chunks: int = 25
    """Number of chunks of held-out stories, and of the stories that latent statistics are taken over."""
    richness: int = 1
    """How much there is to see in the stories, see ``storyworld.render``."""
    takes: tuple[str, ...] = ("story",)
    """Kinds of takes, of ``storyworld.TAKES``; other kinds than story exist at richness 2 alone."""
    videos: VideoConfig | None = None
    """Videos to train on instead of rendered stories. Then numbers of stories count excerpts, which all have
    `chunks_per_story` chunks, and `richness`, `takes`, `latent_frames` and `measured_chunks` are unused."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW after warm-up; it trains the outer layers, norms and biases."""
    orthogonal_learning_rate: float = 0.02
    """Learning rate of Muon after warm-up; it trains the inner weights."""
    decay: tuple[tuple[float, float], ...] = ((0.4, 0.5), (0.6, 0.25), (0.75, 0.12), (0.87, 0.05), (0.95, 0.02))
    """(fraction of the run, factor): from there on learning rates are multiplied by the factor."""
    square_weight: float = 5.0
    """Weight of the squared error beside the absolute one."""
    divergence_weight: float = 1e-4
    """Weight of the Kullback-Leibler divergence, a mean over latent numbers."""
    evaluate_stories: int = 4
    """Number of held-out stories in evaluations while training, of each kind of `takes`."""
    final_stories: int = 32
    """Number of held-out stories in the last evaluation, of each kind of `takes`."""
    principal_stories: int = 16
    """Number of training stories that the initial linear code is fitted to, of all kinds in turn."""
    statistics_stories: int = 64
    """Number of training stories that latent statistics are taken over, of all kinds in turn."""
    enough: float = math.inf
    """End the training when an evaluation reaches this PSNR in dB."""

    def __post_init__(self) -> None:
        if self.latent_frames < LEAST_LATENT_FRAMES:
            raise ValueError(f"latent_frames is {self.latent_frames}; expected at least {LEAST_LATENT_FRAMES}")
        length = self.latent_frames if self.videos is None else self.videos.latent_frames
        shortest = sum(chunk_frames(self.chunks_per_story, length))
        if self.clip_frames % 4 != 1 or not 1 <= self.clip_frames <= shortest:
            raise ValueError(f"clip_frames is {self.clip_frames}; expected 4n - 3, at most {shortest}")
        check_takes(self.takes, self.richness)
        most = HELD_OUT // len(self.takes)
        if not 1 <= self.num_stories <= most:
            raise ValueError(f"num_stories is {self.num_stories}; expected 1 to {most} (then come held-out ones)")

    @property
    def num_kinds(self) -> int:
        """Kinds of stories that a pool gives in turn; videos are of one kind."""
        return len(self.takes) if self.videos is None else 1

    @property
    def training_stories(self) -> range:
        """Numbers of all stories to train on, see `StoryPool`."""
        return range(self.num_stories * self.num_kinds)

    def held_out_stories(self, count: int) -> range:
        """Numbers of so many held-out stories of each kind, see `StoryPool`."""
        return range(HELD_OUT, HELD_OUT + count * self.num_kinds)


def train_vae(config: VAETrainConfig) -> RunResult:
    """Train an autoencoder, or go on training it, and write ``vae.safetensors`` with its latent statistics.

    Also written are ``log.jsonl``, ``curve.png``, ``samples.png`` (truth above reconstruction) and the checkpoint to go
    on from.

    Returns:
        Steps, seconds, and the mean and the smallest PSNR in dB of whole held-out stories.
    """
    require_one_process("the autoencoder")
    keep_freed_memory()
    torch.manual_seed(config.seed)
    vae = CausalVAE(config.model)
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this argument out
    pool, whole_stories = _pools(config)
    seeds = config.held_out_stories(config.evaluate_stories)
    first = config.training_stories[: config.principal_stories]
    vae.start_from_principal_components(pool.clips(first, [0] * len(first), length=pool.frames_per_story))

    def loss(model: CausalVAE, step: int, generator: torch.Generator) -> Loss:
        return reconstruction_loss(model, draw_clips(pool, config, generator), config=config, generator=generator)

    def evaluate(model: CausalVAE) -> Mapping[str, float]:
        figures = psnr_figures(story_psnr(model, whole_stories, seeds))
        write_samples(model, whole_stories, seeds, path=config.out / "samples.png")
        logger.info("%s", figures)
        return figures

    result = fit(
        vae,
        _run_config(config),
        Task(
            loss=loss,
            evaluate=evaluate,
            good_enough=lambda figures: figures["psnr_db"] >= config.enough,
            orthogonal=inner_weights(vae),
        ),
    )
    vae.eval()
    _normalise_latents(vae, whole_stories, config)
    save_vae(vae, config.out / "vae.safetensors", dtype=torch.float16)
    final = psnr_figures(story_psnr(vae, whole_stories, config.held_out_stories(config.final_stories)))
    write_samples(vae, whole_stories, seeds, path=config.out / "samples.png")
    return RunResult(steps=result.steps, seconds=result.seconds, evaluation=final)


def _run_config(config: VAETrainConfig) -> RunConfig:
    """Make the settings of the run that trains an autoencoder."""
    return RunConfig(
        out=config.out,
        minutes=config.minutes,
        max_steps=config.max_steps,
        seed=config.seed,
        learning_rate=config.learning_rate,
        orthogonal_learning_rate=config.orthogonal_learning_rate,
        decay=config.decay,
        warmup_steps=50,
    )


def _normalise_latents(vae: CausalVAE, pool: FramePool, config: VAETrainConfig) -> None:
    """Set the latent statistics of a trained autoencoder: mean 0, and the variances of `channel_scales`."""
    mean, std = latent_statistics(vae, pool, config.training_stories[: config.statistics_stories])
    vae.set_latent_statistics(mean, std)
    vae.set_latent_statistics(mean, std / channel_scales(vae, pool, config.training_stories[:4]))


def _pools(config: VAETrainConfig) -> tuple[FramePool, FramePool]:
    """Make the pool that clips are cut from, and that of whole stories for evaluations and statistics."""
    if config.videos is not None:
        pool = VideoPool(config.videos, config.chunks_per_story)
        return pool, pool
    clips, whole = (
        StoryPool(length, richness=config.richness, takes=config.takes, latent_frames=config.latent_frames)
        for length in (config.chunks_per_story, config.measured_chunks)
    )
    return clips, whole


def inner_weights(vae: CausalVAE) -> list[nn.Parameter]:
    """List the weights that Muon trains: those of two or more axes that touch neither pixels nor latents."""
    last = f"encoder.{len(vae.encoder) - 1}.", f"decoder.{len(vae.decoder) - 1}."
    outer = ("linear_", "encoder.0.", "decoder.0.", *last)
    return [p for name, p in vae.named_parameters() if p.ndim > 1 and not name.startswith(outer)]


def draw_clips(pool: FramePool, config: VAETrainConfig, generator: torch.Generator) -> Float[Tensor, "b 3 t h w"]:
    """Draw a batch of clips from random stories at random times; one clip in eight is the start of its story."""
    count, last = config.batch_size, pool.frames_per_story - config.clip_frames
    seeds = torch.randint(len(config.training_stories), (count,), generator=generator)
    starts = torch.randint(last + 1, (count,), generator=generator)
    starts[torch.rand(count, generator=generator) < 1 / 8] = 0
    return pool.clips(seeds.tolist(), starts.tolist(), length=config.clip_frames)


def reconstruction_loss(
    vae: CausalVAE, frames: Float[Tensor, "b 3 t h w"], *, config: VAETrainConfig, generator: torch.Generator
) -> Loss:
    """Absolute plus squared error of a noisy reconstruction, plus the divergence of the latents from unit noise."""
    mean, log_variance, _ = vae.posterior(frames)
    noise = torch.randn(mean.shape, generator=generator)
    rebuilt, _ = vae.pixels(mean + noise * (log_variance / 2).exp())
    absolute, square = F.l1_loss(rebuilt, frames), F.mse_loss(rebuilt, frames)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    loss = absolute + config.square_weight * square + config.divergence_weight * divergence
    return loss, {"absolute": absolute.item(), "square": square.item(), "divergence": divergence.item()}


@torch.no_grad()
def story_psnr(vae: CausalVAE, pool: FramePool, seeds: Sequence[int]) -> Float[Tensor, " stories"]:
    """Compute the PSNR in dB (peak to peak 2) of each whole story, encoded and decoded chunk by chunk."""
    values = []
    for seed in seeds:
        frames = pool.clips([seed], [0], length=pool.frames_per_story)
        error = F.mse_loss(stream(vae, frames, pool.chunk_frames), frames)
        values.append(10 * torch.log10(4 / error))
    return torch.stack(values)


def psnr_figures(values: Float[Tensor, " stories"]) -> dict[str, float]:
    """Compute the mean and the smallest of some PSNRs, as figures for the log."""
    return {"psnr_db": values.mean().item(), "least_psnr_db": values.min().item()}


@torch.no_grad()
def stream(vae: CausalVAE, frames: Float[Tensor, "b 3 t h w"], lengths: Sequence[int]) -> Float[Tensor, "b 3 t h w"]:
    """Encode and decode a video chunk by chunk; the chunks have these lengths."""
    encoder = decoder = None
    parts = []
    for chunk in frames.split(list(lengths), dim=2):
        latents, encoder = vae.encode(chunk, encoder)
        rebuilt, decoder = vae.decode(latents, decoder)
        parts.append(rebuilt)
    return torch.cat(parts, dim=2)


@torch.no_grad()
def latent_statistics(
    vae: CausalVAE, pool: FramePool, seeds: Sequence[int]
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Compute mean and standard deviation of each latent channel over whole stories, before normalisation."""
    total = torch.zeros(2, vae.config.latent_channels, dtype=torch.float64)
    for seed in seeds:
        mean, _, _ = vae.posterior(pool.clips([seed], [0], length=pool.frames_per_story))
        values = mean.double()
        total += torch.stack([values.mean((0, 2, 3, 4)), values.square().mean((0, 2, 3, 4))])
    first, second = total / len(seeds)
    least = 1e-8  # a channel that never changes must not be divided by zero
    return first.float(), (second - first.square()).clamp_min(least).sqrt().float()


@torch.no_grad()
def channel_scales(
    vae: CausalVAE, pool: FramePool, seeds: Sequence[int], *, disturbance: float = 0.3
) -> Float[Tensor, " c"]:
    """Compute standard deviations for the channels of unit-variance latents; their mean square is 1.

    A code that began as principal components holds most of the visible picture in few channels: three of sixteen had
    nine tenths of it. At equal variance a diffusion model spends its capacity on the others. The scale is the fourth
    root of a channel's effect on the pixels, half way to a space in which distances are those of pixels. Noise has the
    same variance in all channels, so what matters most then also emerges from the noise first.

    Args:
        vae: The autoencoder, with latents of unit variance.
        pool: The stories.
        seeds: The stories to measure on.
        disturbance: Standard deviation of the noise that a channel's effect is measured by.
    """
    effect = torch.zeros(vae.config.latent_channels)
    generator = torch.Generator().manual_seed(0)
    for seed in seeds:
        latents, _ = vae.encode(pool.clips([seed], [0], length=min(97, pool.frames_per_story)))
        whole, _ = vae.decode(latents)
        for channel in range(len(effect)):
            moved = latents.clone()
            moved[:, channel] += disturbance * torch.randn(moved[:, channel].shape, generator=generator)
            effect[channel] += F.mse_loss(vae.decode(moved)[0], whole)
    scale = effect.clamp_min(1e-12) ** 0.25
    return scale / scale.square().mean().sqrt()


def write_samples(vae: CausalVAE, pool: FramePool, seeds: Sequence[int], *, path: Path, columns: int = 12) -> None:
    """Write frames of some stories as a PNG: truth above reconstruction."""
    rows = []
    for seed in seeds:
        frames = pool.clips([seed], [0], length=pool.frames_per_story)
        chosen = torch.linspace(0, frames.shape[2] - 1, columns).long()
        rows += [video[0, :, chosen] for video in (frames, stream(vae, frames, pool.chunk_frames))]
    sheet = torch.cat([row.permute(2, 1, 3, 0).flatten(1, 2) for row in rows])
    image = Image.fromarray(sheet.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy())
    with whole_file(path) as partial:
        image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(partial, format="png")
