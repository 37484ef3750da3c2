"""The study itself: how near a training step comes to the machine's matrix-product rate, and where its time goes.

The real trainer runs a few steps on stories of random numbers, on which time does not depend. Time is processor time of
this process, so that other work on the machine does not count. Shares of the profile are of elapsed time.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile, record_function

from bdiff import defaults
from bdiff.files import write_whole
from bdiff_bench.harness import describe_device, describe_machine, write_page
from bdiff_core import ChunkDiT, ModelConfig, load_transformer, save_transformer
from bdiff_train.data import StorySet
from bdiff_train.engine import Task, fit, iteration_flops, step_generator
from bdiff_train.transformer import (
    RECIPES,
    Files,
    ModelTask,
    make_batch,
    orthogonal_matrices,
    run_config,
    training_data,
)
from studies.training_step.page import training_step_parts
from studies.training_step.profile_shares import FORWARD, shares

_STORIES, _CHUNKS, _FRAMES, _SIDE, _CAPTIONS = 16, 25, 5, 8, 200
_ATTENTIONS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStepConfig:
    """What is timed."""

    out: Path
    """Folder of page and figures."""
    model: Path = defaults.WEIGHTS
    """Folder of the model whose transformer is trained; only its sizes matter."""
    warm_up: int = 2
    """Steps before any is timed."""
    steps: int = 8
    """Timed steps; half as many after them are profiled."""
    threads: int = 1
    """Threads of torch."""

    def __post_init__(self) -> None:
        if self.warm_up < 0 or self.steps < 2 or self.threads < 1:
            raise ValueError(
                f"warm_up is {self.warm_up}, steps {self.steps}, threads {self.threads}; expected at least 0, 2 and 1"
            )


def tiny_config(config: TrainingStepConfig) -> TrainingStepConfig:
    """The same with a small random model and few steps; the figures say nothing."""
    torch.manual_seed(0)
    sizes = ModelConfig(dim=24, num_layers=1, num_heads=2, ffn_dim=24, text_dim=6, text_length=3)
    model = config.out / "model"
    save_transformer(ChunkDiT(sizes), model / "transformer")
    return replace(config, model=model, warm_up=1, steps=2)


def measure_training_step(config: TrainingStepConfig) -> dict[str, Any]:
    """Time and profile training steps in float32 and bfloat16; writes ``figures.json`` and ``page.md``.

    Returns:
        The figures.
    """
    with _threads(config.threads):
        figures = {
            "config": {name: str(value) for name, value in asdict(config).items()},
            "machine": describe_machine() | describe_device("cpu"),
            "runs": {name: _run(config, getattr(torch, name)) for name in ("float32", "bfloat16")},
        }
    write_whole(config.out / "figures.json", json.dumps(figures, indent=2) + "\n")
    title = "How near a training step comes to the machine's matrix products"
    write_page(config.out / "page.md", training_step_parts(figures), title=title)
    return figures


def product_rate(rows: int, inner: int, columns: int, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """Operations per second of processor time in the product of two matrices; the best of several products."""
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    left @ right
    best, until = 0.0, time.process_time() + seconds
    while time.process_time() < until:
        started = time.process_time()
        left @ right
        best = max(best, 2 * rows * inner * columns / (time.process_time() - started))
    return best


def _run(config: TrainingStepConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Train some steps by the recipe `default`, with matrix products in a dtype: seconds of each, then a profile."""
    with tempfile.TemporaryDirectory() as folder:
        transformer = config.model / "transformer"
        files = Files(out=Path(folder), vae=Path(), stories=Path(), start_from=transformer)
        chosen = replace(
            RECIPES["default"](files),
            bfloat16=dtype == torch.bfloat16,
            minutes=1e9,
            max_steps=config.warm_up + config.steps + max(2, config.steps // 2),
        )
        model = load_transformer(transformer, dtype=torch.float32)
        task = ModelTask(config=chosen, data=training_data(chosen, model, _stories(model)))
        run = replace(run_config(chosen, task, model), checkpoint_minutes=1e9)
        matrices = orthogonal_matrices(model)
        watched = _Watched(task, first=config.warm_up, last=config.warm_up + config.steps)
        fit(model, run, Task(loss=watched.loss, orthogonal=matrices))
        watched.profile.__exit__(None, None, None)
    assert run.workload is not None  # run_config counts it
    dim, wide, tokens = model.config.dim, model.config.ffn_dim, run.workload.tokens
    return {
        "tokens_a_step": tokens,
        "flops_a_step": run.workload.flops,
        "hidden_flops": _hidden_flops(task, model),
        "orthogonal_flops": sum(iteration_flops((matrix.shape[0], matrix.shape[1])) for matrix in matrices),
        "seconds": [after - before for before, after in pairwise(watched.starts)],
        "rates": {
            "square": product_rate(max(512, dim), max(512, dim), max(512, dim), dtype),
            "tokens_by_width": product_rate(tokens, dim, dim, dtype),
            "tokens_by_hidden": product_rate(tokens, dim, wide, dtype),
            "weight_gradient": product_rate(dim, tokens, wide, dtype),
        },
        "attention": _attention_seconds(task, model, dtype),
        "profile": shares(watched.profile.key_averages()),
    }


def _visible(task: ModelTask) -> Bool[Tensor, "b chunks chunks"]:
    """Which chunks see which in a batch."""
    data = task.data
    batch = make_batch(
        data.stories,
        data.levels,
        data.policy,
        generator=step_generator(0, 0),
        config=data.batch,
        tokens_per_chunk=data.tokens_per_chunk,
    )
    return batch.gather.visible


def _hidden_flops(task: ModelTask, model: ChunkDiT) -> int:
    """Operations of a step on pairs of tokens that a mask hides; they are counted as work, as kernels compute them."""
    pairs = int((~_visible(task)).sum()) * task.data.tokens_per_chunk**2
    return 3 * 4 * model.config.num_layers * model.config.dim * pairs


def _attention_seconds(task: ModelTask, model: ChunkDiT, dtype: torch.dtype) -> dict[str, float]:
    """Processor time of a layer's attention in a step, forward and backward; the least of several runs."""
    tokens, config = task.data.tokens_per_chunk, model.config
    mask = _visible(task).repeat_interleave(tokens, dim=1).repeat_interleave(tokens, dim=2)[:, None]
    shape = (mask.shape[0], config.num_heads, mask.shape[-1], config.dim // config.num_heads)
    took: dict[str, list[float]] = {"forward": [], "backward": []}
    for _ in range(_ATTENTIONS):
        query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
        started = time.process_time()
        made = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        between = time.process_time()
        made.backward(torch.ones_like(made))
        took["forward"].append(between - started)
        took["backward"].append(time.process_time() - between)
    return {name: min(seconds) for name, seconds in took.items()}


def _stories(model: ChunkDiT) -> StorySet:
    """Stories of random numbers, with the sizes of the shipped autoencoder's latents."""
    generator = torch.Generator().manual_seed(0)
    shape = (_STORIES, _CHUNKS * _FRAMES, model.config.in_channels, _SIDE, _SIDE)
    text = (_CAPTIONS, model.config.text_length, model.config.text_dim)
    return StorySet(
        latents=torch.randn(shape, generator=generator).half(),
        caption=torch.randint(_CAPTIONS, (_STORIES, _CHUNKS), generator=generator),
        tokens=torch.randn(text, generator=generator).half(),
        embedding=normalize(torch.randn(_CAPTIONS, 64, generator=generator), dim=1),
    )


class _Watched:
    """The loss of a task, which also notes when steps start, and profiles the steps after the timed ones."""

    def __init__(self, task: ModelTask, *, first: int, last: int) -> None:
        self.task, self.first, self.last = task, first, last
        self.starts: list[float] = []
        self.profile = profile(activities=[ProfilerActivity.CPU])

    def loss(
        self, module: nn.Module, step: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
        if self.first <= step <= self.last:
            self.starts.append(time.process_time())
        if step == self.last:
            self.profile.__enter__()
        with record_function(FORWARD):
            return self.task.loss(module, step, generator)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
