"""How near a training step of the default model comes to the machine's matrix-product rate, and what stands in the way.

The real trainer runs a few steps on stories of random numbers (time does not depend on them). Time is processor time of
this process, so that a machine busy with something else measures the same; the profile's shares are of elapsed time.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
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
from bdiff.files.whole import write_whole
from bdiff_bench.harness.machine import describe_device, describe_machine
from bdiff_core import ChunkDiT, load_transformer
from bdiff_train.data.stories import StorySet
from bdiff_train.engine.config import Task
from bdiff_train.engine.loop import fit, step_generator
from bdiff_train.engine.muon import iteration_flops
from bdiff_train.transformer.batches import make_batch
from bdiff_train.transformer.recipes import RECIPES, Files
from bdiff_train.transformer.task import ModelTask
from bdiff_train.transformer.train import orthogonal_matrices, run_config, stage_of
from studies.training_step.page import step_page

_STORIES, _CHUNKS, _FRAMES, _SIDE, _CAPTIONS = 16, 25, 5, 8, 200
_FORWARD = "loss and its batch"
_REST, _LARGEST, _ATTENTIONS = "element by element, and the rest", 16, 4
_KINDS = (  # the first that has a part of the operation's name
    ("matrix products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn", "convolution")),
    ("attention", ("scaled_dot_product",)),
    ("norms", ("layer_norm", "rms_norm")),
    ("copies and casts", ("copy", "aten::cat", "clone", "fill_", "zero_", "index", "stack", "gather")),
    ("AdamW and averages", ("_fused_adam", "_foreach_lerp")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepBenchConfig:
    """What is timed."""

    out: Path
    """Folder of page and figures."""
    model: Path = defaults.WEIGHTS
    """Folder of the model that is trained on; its sizes are what counts."""
    warm_up: int = 2
    """Steps before any is timed."""
    steps: int = 8
    """Timed steps; the profile has half as many after them."""
    threads: int = 1
    """Of torch."""

    def __post_init__(self) -> None:
        if self.warm_up < 0 or self.steps < 2 or self.threads < 1:
            raise ValueError(
                f"warm_up is {self.warm_up}, steps {self.steps}, threads {self.threads}; expected at least 0, 2 and 1"
            )


def bench_step(config: StepBenchConfig) -> dict[str, Any]:
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
    write_whole(config.out / "page.md", step_page(figures))
    return figures


def product_rate(rows: int, inner: int, columns: int, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """Operations per second of processor time in the product of two matrices, the best of repeats."""
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    left @ right
    best, until = 0.0, time.process_time() + seconds
    while time.process_time() < until:
        started = time.process_time()
        left @ right
        best = max(best, 2 * rows * inner * columns / (time.process_time() - started))
    return best


def _run(config: StepBenchConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Steps of the recipe `default` in a dtype of matrix products: seconds of each, then a profile."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files(out=Path(folder), vae=Path(), stories=Path(), start_from=config.model / "transformer")
        chosen = replace(
            RECIPES["default"](files),
            bfloat16=dtype == torch.bfloat16,
            minutes=1e9,
            max_steps=config.warm_up + config.steps + max(2, config.steps // 2),
        )
        model = load_transformer(files.start_from, dtype=torch.float32)
        stage = stage_of(chosen, model, _stories(model))
        task = ModelTask(config=chosen, stage=stage)
        run = replace(run_config(chosen, task, model), checkpoint_minutes=1e9)
        matrices = orthogonal_matrices(model)
        watched = _Watched(task, first=config.warm_up, last=config.warm_up + config.steps)
        fit(model, run, Task(loss=watched.loss, orthogonal=matrices))
        watched.profile.__exit__(None, None, None)
    dim, wide, tokens = model.config.dim, model.config.ffn_dim, run.work.tokens
    return {
        "tokens_a_step": tokens,
        "flops_a_step": run.work.flops,
        "hidden_flops": _hidden_flops(task, model),
        "orthogonal_flops": sum(iteration_flops(tuple(matrix.shape)) for matrix in matrices),
        "seconds": [after - before for before, after in pairwise(watched.starts)],
        "rates": {
            "square": product_rate(max(512, dim), max(512, dim), max(512, dim), dtype),
            "tokens_by_width": product_rate(tokens, dim, dim, dtype),
            "tokens_by_hidden": product_rate(tokens, dim, wide, dtype),
            "weight_gradient": product_rate(dim, tokens, wide, dtype),
        },
        "attention": _attention_seconds(task, model, dtype),
        "profile": summarise(watched.profile.key_averages()),
    }


def _visible(task: ModelTask) -> Bool[Tensor, "b chunks chunks"]:
    """Which chunks see which in a batch."""
    stage, generator = task.stage, step_generator(0, 0)
    options = {"config": stage.batch, "tokens_per_chunk": stage.tokens_per_chunk}
    return make_batch(stage.stories, stage.levels, stage.policy, generator=generator, **options).gather.visible


def _hidden_flops(task: ModelTask, model: ChunkDiT) -> int:
    """Operations of a step on pairs of tokens that a mask hides: counted as work, and done by kernels with a mask."""
    pairs = int((~_visible(task)).sum()) * task.stage.tokens_per_chunk**2
    return 3 * 4 * model.config.num_layers * model.config.dim * pairs


def _attention_seconds(task: ModelTask, model: ChunkDiT, dtype: torch.dtype) -> dict[str, float]:
    """Processor time of a layer's attention, forward and then backward, as a step asks for it; the least of a few."""
    tokens, config = task.stage.tokens_per_chunk, model.config
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
    """Stories of random numbers, in the sizes of the shipped autoencoder."""
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
    """The loss of a task, which notes when steps start, and profiles those after the timed ones."""

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
        with record_function(_FORWARD):
            return self.task.loss(module, step, generator)


def summarise(events: Iterable[Any]) -> dict[str, Any]:
    """Shares of profiled time: by phase of a step, by kind of operation, and of the operations that take most.

    Args:
        events: Of ``torch.profiler.profile.key_averages``; read are ``key``, ``self_cpu_time_total`` and
            ``cpu_time_total``.
    """
    events = [event for event in events if not event.key.startswith("ProfilerStep")]
    own = {event.key: event.self_cpu_time_total for event in events}
    whole = {event.key: event.cpu_time_total for event in events}
    total = math.fsum(own.values())
    phases = {_FORWARD: whole.get(_FORWARD, 0.0)}
    phases["backward"] = math.fsum(t for key, t in whole.items() if key.startswith("autograd::engine"))
    phases |= {key.split("#")[1].split(".")[0]: t for key, t in whole.items() if key.startswith("Optimizer.step#")}
    kinds = dict.fromkeys((*(kind for kind, _ in _KINDS), _REST), 0.0)
    for key, took in own.items():
        kinds[kind_of(key)] += took
    largest = sorted(own, key=own.__getitem__, reverse=True)[:_LARGEST]
    return {
        "phases": {name: took / total for name, took in phases.items()},
        "kinds": {name: took / total for name, took in kinds.items()},
        "largest": {key: own[key] / total for key in largest},
    }


def kind_of(operation: str) -> str:
    """The kind of an operation, by its name in a profile."""
    return next((kind for kind, parts in _KINDS if any(part in operation for part in parts)), _REST)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
