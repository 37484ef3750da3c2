"""Training the small autoencoder on stories, and measuring it.

Clips are cut at random times from rendered stories. The loss is absolute plus squared error, with a little noise and
Kullback-Leibler cost on the latents, so that they are smooth enough for a diffusion model. Measured is what sampling
does: whole held-out stories, encoded and decoded as streams.
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

from bdiff.run.allocator import keep_freed_memory
from bdiff_core.vae import CausalVAE, VAEConfig, VAEState, save_vae
from bdiff_core.whole_file import whole_file
from bdiff_train.data.story_pool import CHUNK, FIRST_CHUNK, HELD_OUT, StoryPool
from bdiff_train.data.video_pool import VideoPool
from bdiff_train.data.videos import VideoConfig
from bdiff_train.engine.config import RunConfig, RunResult, Task
from bdiff_train.engine.distributed import require_one_process
from bdiff_train.engine.loop import fit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class VAETrainConfig:
    """A training run of a `CausalVAE` on stories."""

    out: Path
    """Directory of checkpoint, log, curve, samples and weights."""
    minutes: float = 25.0
    """Time to train, all resumed parts together."""
    max_steps: int | None = None
    """Steps to train; None: as many as fit into the time."""
    model: VAEConfig = field(default_factory=VAEConfig)
    """Sizes of the autoencoder."""
    seed: int = 0
    """Of weights, clips and noise."""
    batch_size: int = 4
    """Clips a step."""
    clip_frames: int = 17
    """Frames a clip, 4n - 3."""
    num_stories: int = 400
    """Stories to train on."""
    chunks_per_story: int = 10
    """Chunks of the stories to train on; ten take 2.4 MB of memory."""
    measured_chunks: int = 25
    """Chunks of the held-out stories, and of those that latent statistics are taken over."""
    richness: int = 1
    """Of the stories."""
    videos: VideoConfig | None = None
    """Videos to train on instead of rendered stories: numbers of stories count takes, which all have
    `chunks_per_story`; `richness` and `measured_chunks` are unused."""
    learning_rate: float = 2e-3
    """Of AdamW (edges of the network, norms and biases), after warm-up."""
    orthogonal_learning_rate: float = 0.02
    """Of Muon (everything between)."""
    decay: tuple[tuple[float, float], ...] = ((0.4, 0.5), (0.6, 0.25), (0.75, 0.12), (0.87, 0.05), (0.95, 0.02))
    """(fraction of the run, factor) of the learning rates."""
    square_weight: float = 5.0
    """Of the squared error beside the absolute one."""
    divergence_weight: float = 1e-4
    """Of the Kullback-Leibler divergence per latent number."""
    evaluate_stories: int = 4
    """Held-out stories of evaluations while training."""
    final_stories: int = 32
    """Held-out stories of the last measurement."""
    principal_stories: int = 16
    """Training stories over which the linear code to begin with is fitted."""
    statistics_stories: int = 64
    """Training stories over which latent statistics are taken."""
    enough: float = math.inf
    """Stop when evaluations reach this many dB."""

    def __post_init__(self) -> None:
        shortest = FIRST_CHUNK + CHUNK * (self.chunks_per_story - 1)
        if self.clip_frames % 4 != 1 or not 1 <= self.clip_frames <= shortest:
            raise ValueError(f"clip_frames is {self.clip_frames}; expected 4n - 3, at most {shortest}")
        if not 1 <= self.num_stories <= HELD_OUT:
            raise ValueError(f"num_stories is {self.num_stories}; expected 1 to {HELD_OUT} (then come held-out ones)")


def train_vae(config: VAETrainConfig) -> RunResult:
    """Train an autoencoder, or go on training it, and write ``vae.safetensors`` with its latent statistics.

    Also written: ``log.jsonl``, ``curve.png``, ``samples.png`` (truth above reconstruction) and the checkpoint to go on
    from.

    Returns:
        Steps, seconds, and mean and least PSNR in dB over whole held-out stories.
    """
    require_one_process("the autoencoder")
    keep_freed_memory()
    torch.manual_seed(config.seed)
    vae = CausalVAE(config.model).to(memory_format=torch.channels_last)
    pool, watched = _pools(config)
    seeds = range(HELD_OUT, HELD_OUT + config.evaluate_stories)
    first = range(min(config.principal_stories, config.num_stories))
    vae.start_from_principal_components(pool.clips(first, [0] * len(first), length=pool.frames_per_story))

    def loss(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return reconstruction_loss(model, draw_clips(pool, config, generator), config=config, generator=generator)

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        figures = psnr_figures(story_psnr(model, watched, seeds))
        write_samples(model, watched, seeds, path=config.out / "samples.png")
        logger.info("%s", figures)
        return figures

    result = fit(
        vae,
        RunConfig(
            out=config.out,
            minutes=config.minutes,
            max_steps=config.max_steps,
            seed=config.seed,
            learning_rate=config.learning_rate,
            orthogonal_learning_rate=config.orthogonal_learning_rate,
            decay=config.decay,
            warmup_steps=50,
        ),
        Task(
            loss=loss,
            evaluate=evaluate,
            good_enough=lambda figures: figures["psnr_db"] >= config.enough,
            orthogonal=inner_weights(vae),
        ),
    )
    vae.eval()
    mean, std = latent_statistics(vae, watched, range(min(config.statistics_stories, config.num_stories)))
    vae.set_latent_statistics(mean, std)
    vae.set_latent_statistics(mean, std / channel_scales(vae, watched, range(min(4, config.num_stories))))
    save_vae(vae, config.out / "vae.safetensors", dtype=torch.float16)
    final = psnr_figures(story_psnr(vae, watched, range(HELD_OUT, HELD_OUT + config.final_stories)))
    write_samples(vae, watched, seeds, path=config.out / "samples.png")
    return RunResult(steps=result.steps, seconds=result.seconds, evaluation=final)


def _pools(config: VAETrainConfig) -> tuple[StoryPool, StoryPool]:
    """What clips are cut from, and what is measured."""
    if config.videos is not None:
        pool = VideoPool(config.videos, config.chunks_per_story)
        return pool, pool
    return tuple(StoryPool(n, richness=config.richness) for n in (config.chunks_per_story, config.measured_chunks))


def inner_weights(vae: CausalVAE) -> list[nn.Parameter]:
    """The weights that Muon trains: all with two or more axes but those that touch pixels or latents."""
    last = f"encoder.{len(vae.encoder) - 1}.", f"decoder.{len(vae.decoder) - 1}."
    outer = ("linear_", "encoder.0.", "decoder.0.", *last)
    return [p for name, p in vae.named_parameters() if p.ndim > 1 and not name.startswith(outer)]


def draw_clips(pool: StoryPool, config: VAETrainConfig, generator: torch.Generator) -> Float[Tensor, "b 3 t h w"]:
    """A batch of clips from random stories at random times; one clip in eight begins with its story."""
    count, last = config.batch_size, pool.frames_per_story - config.clip_frames
    seeds = torch.randint(config.num_stories, (count,), generator=generator)
    starts = torch.randint(last + 1, (count,), generator=generator)
    starts[torch.rand(count, generator=generator) < 1 / 8] = 0
    return pool.clips(seeds.tolist(), starts.tolist(), length=config.clip_frames)


def reconstruction_loss(
    vae: CausalVAE, frames: Float[Tensor, "b 3 t h w"], *, config: VAETrainConfig, generator: torch.Generator
) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
    """Absolute plus squared error of a noisy reconstruction, plus the divergence of the latents from unit noise."""
    mean, log_variance, _ = vae.posterior(frames)
    noise = torch.randn(mean.shape, generator=generator)
    rebuilt, _ = vae.pixels(mean + noise * (log_variance / 2).exp())
    absolute, square = F.l1_loss(rebuilt, frames), F.mse_loss(rebuilt, frames)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    loss = absolute + config.square_weight * square + config.divergence_weight * divergence
    return loss, {"absolute": absolute.item(), "square": square.item(), "divergence": divergence.item()}


@torch.no_grad()
def story_psnr(vae: CausalVAE, pool: StoryPool, seeds: Sequence[int]) -> Float[Tensor, " stories"]:
    """PSNR in dB (peak to peak 2) of each whole story, encoded and decoded as a stream of chunks."""
    values = []
    for seed in seeds:
        frames = pool.clips([seed], [0], length=pool.frames_per_story)
        error = F.mse_loss(stream(vae, frames), frames)
        values.append(10 * torch.log10(4 / error))
    return torch.stack(values)


def psnr_figures(values: Float[Tensor, " stories"]) -> dict[str, float]:
    """Mean and least of some PSNRs, as figures for the log."""
    return {"psnr_db": values.mean().item(), "least_psnr_db": values.min().item()}


@torch.no_grad()
def stream(vae: CausalVAE, frames: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
    """Encode and decode a video chunk by chunk: 17 frames, then 20 at a time."""
    encoder: VAEState | None = None
    decoder: VAEState | None = None
    parts = []
    for chunk in frames.split([FIRST_CHUNK, *[CHUNK] * ((frames.shape[2] - FIRST_CHUNK) // CHUNK)], dim=2):
        latents, encoder = vae.encode(chunk, encoder)
        rebuilt, decoder = vae.decode(latents, decoder)
        parts.append(rebuilt)
    return torch.cat(parts, dim=2)


@torch.no_grad()
def latent_statistics(
    vae: CausalVAE, pool: StoryPool, seeds: Sequence[int]
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and standard deviation of each latent channel over whole stories, before normalisation."""
    total = torch.zeros(2, vae.config.latent_channels, dtype=torch.float64)
    for seed in seeds:
        mean, _, _ = vae.posterior(pool.clips([seed], [0], length=pool.frames_per_story))
        values = mean.double()
        total += torch.stack([values.mean((0, 2, 3, 4)), values.square().mean((0, 2, 3, 4))])
    first, second = total / len(seeds)
    least = 1e-8  # a channel that never changes must not be divided by nothing
    return first.float(), (second - first.square()).clamp_min(least).sqrt().float()


@torch.no_grad()
def channel_scales(
    vae: CausalVAE, pool: StoryPool, seeds: Sequence[int], *, disturbance: float = 0.3
) -> Float[Tensor, " c"]:
    """Standard deviations to give the channels of unit-variance latents; their mean square is 1.

    A code that began as principal components spreads what the eye sees very unevenly: three of sixteen channels held
    nine tenths of it. At equal variance a diffusion model spends itself on the others. The scale is the fourth root of
    a channel's effect on the pixels, half way to a space in which distance is that of pixels; as noise is the same for
    all channels, what matters most then also comes out of the noise first.
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


def write_samples(vae: CausalVAE, pool: StoryPool, seeds: Sequence[int], *, path: Path, columns: int = 12) -> None:
    """Write a sheet of frames of some stories as a PNG: truth above reconstruction."""
    rows = []
    for seed in seeds:
        frames = pool.clips([seed], [0], length=pool.frames_per_story)
        chosen = torch.linspace(0, frames.shape[2] - 1, columns).long()
        rows += [video[0, :, chosen] for video in (frames, stream(vae, frames))]
    sheet = torch.cat([row.permute(2, 1, 3, 0).flatten(1, 2) for row in rows])
    image = Image.fromarray(sheet.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy())
    with whole_file(path) as partial:
        image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(partial, format="png")
