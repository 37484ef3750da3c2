"""A training run: steps, schedule, averaging, checkpoints, log. What is trained is a function that returns a loss.

Every random draw of a step comes from a generator seeded by (seed, step), and a checkpoint holds everything that the
next step reads. So a run that was killed and started again ends with the weights of one that was not. (Where learning
rates follow the clock, that is ``minutes`` and no ``max_steps``, only the draws are the same.)
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from bdiff.heap import keep_freed_memory
from bdiff.train.muon import Muon

logger = logging.getLogger(__name__)

LossFunction = Callable[[nn.Module, int, torch.Generator], tuple[Float[Tensor, ""], Mapping[str, float]]]
"""``loss(model, step, generator)`` gives the loss and figures for the log; it draws from the generator alone."""

EvaluateFunction = Callable[[nn.Module], Mapping[str, float]]
"""``evaluate(model)`` gives figures for the log; the model holds the averaged weights meanwhile."""

_BAD_STEPS = 20  # in a row, before a run gives up


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """How long and how fast to train; what is trained does not matter here."""

    out: Path
    """Directory of checkpoint, log and curve."""
    minutes: float = math.inf
    """Time to train, all resumed parts together."""
    max_steps: int | None = None
    """Steps to train, all resumed parts together; None: as many as fit into the time."""
    seed: int = 0
    """Of every draw."""
    learning_rate: float = 1e-4
    """Of AdamW, after warm-up."""
    orthogonal_learning_rate: float = 0.02
    """Of Muon, for the weights that `fit` is told to train so."""
    orthogonal_dtype: torch.dtype = torch.float32
    """Of Muon's iteration."""
    decay: tuple[tuple[float, float], ...] = ((0.5, 0.5),)
    """(fraction of the run, factor): from there on learning rates are this factor of the first ones."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 1e-4
    """Of AdamW, on weights of two or more axes."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.999
    """Of the averaged weights; shorter in the first steps."""
    checkpoint_minutes: float = 3.0
    """Between checkpoints; 0: after every step."""
    evaluate_minutes: float = 3.0
    """Between evaluations, which also happen at the end."""
    log_steps: int = 20
    """Steps that a line of the log averages."""

    def __post_init__(self) -> None:
        if math.isinf(self.minutes) and self.max_steps is None:
            raise ValueError("a run needs an end: set minutes or max_steps")
        if self.minutes <= 0 or (self.max_steps is not None and self.max_steps < 1):
            raise ValueError(f"minutes is {self.minutes}, max_steps {self.max_steps}; both must be positive")
        if self.learning_rate <= 0 or not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"learning_rate {self.learning_rate} must be positive, ema_decay {self.ema_decay} in [0, 1)"
            )
        if list(self.decay) != sorted(self.decay) or any(not 0 <= at <= 1 for at, _ in self.decay):
            raise ValueError(f"decay is {self.decay}; expected (fraction, factor) pairs rising in [0, 1]")

    def rate_factor(self, step: int, progress: float) -> float:
        """Factor of learning rates in a step when this fraction of the run is done: warm-up, then stepwise decay."""
        factor = 1.0
        for fraction, value in self.decay:
            factor = value if progress >= fraction else factor
        return factor * min(1.0, (step + 1) / max(1, self.warmup_steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What `fit` reports."""

    steps: int
    """Done in all."""
    seconds: float
    """Trained in all, resumed parts together."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """Figures of the last evaluation."""


@dataclass(kw_only=True, slots=True)
class _Progress:
    """The part of a run's state that is not tensors."""

    step: int = 0
    seconds: float = 0.0
    bad: int = 0
    evaluation: dict[str, float] = field(default_factory=dict)


def fit(
    model: nn.Module,
    config: RunConfig,
    *,
    loss: LossFunction,
    evaluate: EvaluateFunction | None = None,
    good_enough: Callable[[Mapping[str, float]], bool] | None = None,
    orthogonal: Sequence[nn.Parameter] = (),
) -> RunResult:
    """Train a model, going on from the checkpoint in ``config.out`` if there is one; it ends with averaged weights.

    Args:
        model: what to train, in place.
        config: the run.
        loss: the loss of a step.
        evaluate: figures for the log, now and then.
        good_enough: stops the run early when it says so of the figures of an evaluation.
        orthogonal: weights to train with `Muon` instead of AdamW.

    Raises:
        FloatingPointError: if twenty steps in a row had no finite loss and gradient.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    run = _Run(model, config, orthogonal)
    run.resume()
    done = False
    with _progress_line() as line:
        task = line.add_task("training", total=1.0, note="")
        while not done and run.fraction() < 1:
            _advance(line, task, run, run.step(loss))
            over = run.fraction() >= 1
            if evaluate and (over or run.due("evaluate", config.evaluate_minutes)):
                run.evaluate(evaluate)
                done = good_enough is not None and good_enough(run.progress.evaluation)
            if over or done or run.due("checkpoint", config.checkpoint_minutes):
                run.save()
    run.average.copy_to(model)
    return RunResult(steps=run.progress.step, seconds=run.progress.seconds, evaluation=run.progress.evaluation)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of a step's draws: a function of (seed, step), whatever was drawn before."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class Average:
    """An exponential moving average of a model's parameters.

    Args:
        model: whose parameters to average; they are the first value.
        decay: share of the old value at each update; shorter in the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the parameters after a step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        current = dict(model.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [current[name].detach() for name in self.values], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averages into the model's parameters."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.values[name])

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange averages and parameters; twice gives back what was."""
        for name, parameter in model.named_parameters():
            kept = parameter.clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)


def plot_log(log: Path, target: Path) -> None:
    """Draw loss and the figures of evaluations over the steps of a log as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "loss" not in line]
    names = sorted({name for line in evaluations for name in line} - {"step", "seconds"})
    figure = Figure(figsize=(7, 2.6 * (1 + len(names))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + len(names), 1, squeeze=False)[:, 0]
    axes[0].plot([line["step"] for line in losses], [line["loss"] for line in losses], linewidth=0.8)
    axes[0].set(xlabel="step", ylabel="loss", yscale="log")
    for axis, name in zip(axes[1:], names, strict=True):
        shown = [line for line in evaluations if name in line]
        axis.plot([line["step"] for line in shown], [line[name] for line in shown], marker="o")
        axis.set(xlabel="step", ylabel=name)
    figure.savefig(target, dpi=110)


class _Run:
    def __init__(self, model: nn.Module, config: RunConfig, orthogonal: Sequence[nn.Parameter]) -> None:
        self.model, self.config = model, config
        self.average = Average(model, config.ema_decay)
        self.optimizers = _make_optimizers(model, config, orthogonal)
        self.progress = _Progress()
        self.checkpoint = config.out / "checkpoint.pt"
        self.log = config.out / "log.jsonl"
        self._rates = (config.learning_rate, config.orthogonal_learning_rate)
        self._last = {"evaluate": 0.0, "checkpoint": 0.0}
        self._window: list[dict[str, float]] = []

    def fraction(self) -> float:
        """How much of the run is done; 1 at its end."""
        steps = self.config.max_steps
        of_steps = self.progress.step / steps if steps is not None else 0.0
        return max(of_steps, self.progress.seconds / 60 / self.config.minutes)

    def due(self, what: str, minutes: float) -> bool:
        """Whether so much training time has passed since this last happened."""
        if self.progress.seconds - self._last[what] < 60 * minutes:
            return False
        self._last[what] = self.progress.seconds
        return True

    def step(self, loss: LossFunction) -> float:
        started = time.perf_counter()
        progress, config = self.progress, self.config
        factor = config.rate_factor(progress.step, self.fraction())
        for optimizer, rate in zip(self.optimizers, self._rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        self.model.train()
        value, figures = loss(self.model, progress.step, step_generator(config.seed, progress.step))
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm).item()
        loss_value = value.item()
        if math.isfinite(loss_value) and math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update(self.model, progress.step)
            progress.bad = 0
        else:
            self._skip(loss_value)
        self.model.zero_grad(set_to_none=True)
        progress.step += 1
        progress.seconds += time.perf_counter() - started
        self._window.append(
            {"loss": loss_value, "learning_rate": config.learning_rate * factor, "gradient": norm, **figures}
        )
        if progress.step % config.log_steps == 0:
            self._write_window()
        return loss_value

    def _skip(self, value: float) -> None:
        self.progress.bad += 1
        logger.warning("step %d has loss %g or no finite gradient; skipped", self.progress.step, value)
        if self.progress.bad >= _BAD_STEPS:
            raise FloatingPointError(
                f"no finite loss or gradient in {_BAD_STEPS} steps up to step {self.progress.step}; "
                f"lower the learning rate and start again from {self.checkpoint}"
            )

    def evaluate(self, evaluate: EvaluateFunction) -> None:
        started = time.perf_counter()
        self.average.swap(self.model)
        self.model.eval()
        with torch.no_grad():
            self.progress.evaluation = dict(evaluate(self.model))
        self.average.swap(self.model)
        self.progress.seconds += time.perf_counter() - started
        self._write_line(self.progress.evaluation)
        plot_log(self.log, self.config.out / "curve.png")

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": torch.get_rng_state(),
            "step": self.progress.step,
            "seconds": self.progress.seconds,
            "evaluation": self.progress.evaluation,
        }
        partial = self.checkpoint.with_suffix(".tmp")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def resume(self) -> None:
        if not self.checkpoint.exists():
            self.log.unlink(missing_ok=True)
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.values = state["average"]
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        torch.set_rng_state(state["random"])
        self.progress = _Progress(step=state["step"], seconds=state["seconds"], evaluation=state["evaluation"])
        self._last = dict.fromkeys(self._last, self.progress.seconds)
        # What the killed run logged after its last checkpoint will be logged again.
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.progress.step]
        self.log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        logger.info("going on at step %d after %.0f s", self.progress.step, self.progress.seconds)

    def _write_window(self) -> None:
        names = self._window[-1]
        means = {name: sum(entry[name] for entry in self._window) / len(self._window) for name in names}
        self._window.clear()
        self._write_line(means)

    def _write_line(self, figures: Mapping[str, float]) -> None:
        line = {"step": self.progress.step, "seconds": round(self.progress.seconds, 1), **figures}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: float(f"{value:.6g}") for name, value in line.items()}) + "\n")


def _make_optimizers(
    model: nn.Module, config: RunConfig, orthogonal: Sequence[nn.Parameter]
) -> list[torch.optim.Optimizer]:
    chosen = {id(p) for p in orthogonal}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    if not orthogonal:
        return [adamw]
    return [adamw, Muon(orthogonal, config.orthogonal_learning_rate, dtype=config.orthogonal_dtype)]


def _progress_line() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _advance(line: Progress, task: TaskID, run: _Run, value: float) -> None:
    line.update(task, completed=run.fraction(), note=f"step {run.progress.step} loss {value:.4f}")
