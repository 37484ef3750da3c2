"""The pipelines of diffusers, unchanged, with embedded prompts and without text encoder and autoencoder."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bdiff_bench.peers.config import PeersConfig
from bdiff_bench.peers.shapes import PeerShape, make_transformer
from bdiff_bench.peers.timed_video import ArrivalClock, TimedVideo
from bdiff_bench.peers.workload import anyflow_shown, anyflow_work, windows_work
from bdiff_core.checkpoint import split
from bdiff_core.samplers import staggered

_PIXELS, _FRAMES = 8, 4
"""Side in pixels and length in frames of one latent."""


class DiffusionForcing:
    """SkyReelsV2DiffusionForcingPipeline: windows that overlap by a chunk, in step or one chunk after the other."""

    def __init__(self, config: PeersConfig, shape: PeerShape, name: str) -> None:
        import diffusers

        self._config, self._shape, self._in_step = config, shape, name == "synchronous"
        transformer = _transformer("SkyReelsV2Transformer3DModel", config, shape)
        scheduler = diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shape.shift, num_train_timesteps=1000
        )
        self._pipeline = _pipeline("SkyReelsV2DiffusionForcingPipeline", transformer, scheduler)

    def sample(self, num_chunks: int, num_steps: int) -> TimedVideo:
        """Make one video of latents."""
        config, shape = self._config, self._shape
        lag = 0 if self._in_step else config.lag_of(num_steps)
        rows = list(window_rows(num_chunks, num_steps, window=config.window, lag=lag))
        step, clock = iter(rows), ArrivalClock(config.device)

        def note(*_: Any) -> dict[str, Tensor]:
            clock.note(next(step)[1])
            return {}

        self._pipeline(
            prompt=None,
            ar_step=lag,
            causal_block_size=shape.chunk.frames if lag else None,
            num_frames=_pixel_frames(num_chunks, shape),
            base_num_frames=_pixel_frames(config.window, shape),
            overlap_history=_pixel_frames(1, shape),
            num_inference_steps=num_steps,
            **_common(config, shape, note),
        )
        if len(clock.arrivals) != num_chunks:
            raise RuntimeError(f"{len(clock.arrivals)} of {num_chunks} chunks came: the pipeline has other windows")
        work = windows_work(shape.config, shape.chunk, rows=[seen for seen, _ in rows], lag=lag)
        return TimedVideo(arrivals=tuple(clock.arrivals), work=work, shown=float(shape.tokens))


class AnyFlow:
    """AnyFlowFARPipeline: chunk after chunk under a cache, recent chunks whole and distant ones in larger tokens."""

    def __init__(self, config: PeersConfig, shape: PeerShape, name: str) -> None:
        import diffusers

        self._config, self._shape = config, shape
        transformer = _transformer("AnyFlowFARTransformer3DModel", config, shape)
        scheduler = diffusers.FlowMapEulerDiscreteScheduler(shift=shape.shift)
        self._pipeline = _pipeline("AnyFlowFARPipeline", transformer, scheduler)

    def sample(self, num_chunks: int, num_steps: int) -> TimedVideo:
        """Make one video of latents."""
        config, shape = self._config, self._shape
        clock, count = ArrivalClock(config.device), 0

        def note(*_: Any) -> dict[str, Tensor]:
            nonlocal count
            count += 1
            clock.note(count // num_steps)
            return {}

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
            self._pipeline(
                prompt=None,
                chunk_partition=[shape.chunk.frames] * num_chunks,
                num_frames=_pixel_frames(num_chunks, shape),
                num_inference_steps=num_steps,
                **_common(config, shape, note),
            )
        if len(clock.arrivals) != num_chunks:
            raise RuntimeError(f"{len(clock.arrivals)} of {num_chunks} chunks came: the pipeline has other steps")
        work = anyflow_work(shape.config, shape.chunk, steps=num_steps, num_chunks=num_chunks)
        shown = anyflow_shown(shape.config, shape.chunk, num_chunks - 1)
        return TimedVideo(arrivals=tuple(clock.arrivals), work=work, shown=float(shown))


def window_rows(num_chunks: int, num_steps: int, *, window: int, lag: int) -> Iterator[tuple[int, int]]:
    """Rows of steps of the diffusion forcing: how many chunks are encoded, and how many of the video are then done."""
    for first in range(0, num_chunks, window - 1):
        known, seen = min(first, 1), min(window, num_chunks - first)
        if known == seen:
            return
        for made in staggered(seen, num_steps, lag=lag, num_known=known):
            done = next((place for place, count in enumerate(made) if count < num_steps), seen)
            yield seen, first + done


def _pixel_frames(num_chunks: int, shape: PeerShape) -> int:
    return _FRAMES * (num_chunks * shape.chunk.frames - 1) + 1


def _common(config: PeersConfig, shape: PeerShape, note: Any) -> dict[str, Any]:
    """Arguments of both pipelines: no guidance, latents as the result, a call after every step."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(1, shape.config.text_length, shape.config.text_dim, generator=generator)
    return {
        "prompt_embeds": text.to(config.device),
        "guidance_scale": 1.0,
        "height": _PIXELS * shape.chunk.height,
        "width": _PIXELS * shape.chunk.width,
        "output_type": "latent",
        "callback_on_step_end": note,
        "callback_on_step_end_tensor_inputs": [],
        "generator": torch.Generator().manual_seed(0),
    }


def _transformer(kind: str, config: PeersConfig, shape: PeerShape) -> Any:
    """A transformer of diffusers with our weights; modules that ours lacks keep their own random ones."""
    import diffusers

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    sizes = shape.config
    if sizes.image_dim is not None or sizes.fps_embedding or not sizes.qk_norm:
        raise ValueError(f"{kind} is compared on text-to-video shapes alone")
    ours = make_transformer(shape, device="cpu", dtype=torch.float32)
    theirs = getattr(diffusers, kind)(
        patch_size=sizes.patch_size,
        num_attention_heads=sizes.num_heads,
        attention_head_dim=sizes.head_dim,
        in_channels=sizes.in_channels,
        out_channels=sizes.out_channels,
        text_dim=sizes.text_dim,
        freq_dim=sizes.freq_dim,
        ffn_dim=sizes.ffn_dim,
        num_layers=sizes.num_layers,
        cross_attn_norm=sizes.cross_attn_norm,
        eps=sizes.eps,
    )
    left = theirs.load_state_dict(dict(split(ours, "diffusers")), strict=False)
    extra = ("far_patch_embedding.", "condition_embedder.delta_embedder.")
    strange = [*left.unexpected_keys, *(name for name in left.missing_keys if not name.startswith(extra))]
    if strange:
        raise RuntimeError(f"{kind} does not take our weights: {', '.join(strange[:3])}")
    theirs = theirs.to(device=config.device, dtype=getattr(torch, config.dtype)).eval()
    # AnyFlow rotates by complex numbers, which the compiler cannot do on a CPU.
    if config.compile and (kind.startswith("SkyReels") or config.device != "cpu"):
        theirs.compile_repeated_blocks()
    return theirs


def _pipeline(kind: str, transformer: Any, scheduler: Any) -> Any:
    import diffusers

    none = {"tokenizer": None, "text_encoder": None, "vae": None}
    pipeline = getattr(diffusers, kind)(transformer=transformer, scheduler=scheduler, **none)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
