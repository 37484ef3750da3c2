"""Settings of a run, what it trains, and what it reports."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_train.engine.distributed import Sharding
from bdiff_train.engine.guards import GuardConfig
from bdiff_train.engine.log import Workload
from bdiff_train.engine.optimizers import Rates

M = TypeVar("M", bound=nn.Module)

Loss = tuple[Float[Tensor, ""], Mapping[str, float]]
"""A loss, and figures for the log."""

LossFunction = Callable[[M, int, torch.Generator], Loss]
"""``loss(model, step, generator)`` gives the loss of a micro-batch; every draw comes from the generator."""

WatchFunction = Callable[[float], bool]
"""``watch(fraction)`` is called after each step with the fraction of the run that is done; True ends the run early,
with a checkpoint to go on from."""

EvaluateFunction = Callable[[M], Mapping[str, float]]
"""``evaluate(model)`` gives figures for the log; meanwhile the model holds the averaged weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Settings of a run: how long and how fast to train. What is trained is in `Task`."""

    out: Path
    """Folder of checkpoint, log and curve."""
    minutes: float = math.inf
    """Time to train, resumed parts included."""
    max_steps: int | None = None
    """Steps to train, resumed parts included; None: as many as fit into the time."""
    seed: int = 0
    """Seed of all draws."""
    micro_batches: int = 1
    """Batches whose gradients a step averages; ranks divide them, and each rank adds up its own."""
    learning_rate: float = 1e-4
    """Learning rate of AdamW after warm-up."""
    orthogonal_learning_rate: float = 0.02
    """Learning rate of Muon after warm-up, for the weights in `Task.orthogonal`."""
    orthogonal_dtype: torch.dtype = torch.float32
    """Number type of Muon's iteration."""
    rates: Rates = ()
    """Factors of AdamW's learning rate for parts of the model, by the beginning of parameter names."""
    decay: tuple[tuple[float, float], ...] = ((0.5, 0.5),)
    """(fraction of the run, factor): from there on learning rates are multiplied by the factor."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW, on weights of two or more axes."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of AdamW's moments."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.999
    """Decay of the averaged weights; smaller in the first steps."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Which steps are refused."""
    sharding: Sharding = "whole"
    """How several ranks split the model."""
    checkpoint_minutes: float = 3.0
    """Training time between checkpoints; 0: after every step."""
    evaluate_minutes: float = 3.0
    """Training time between evaluations; there is one at the end, too."""
    log_steps: int = 20
    """Steps that a line of the log averages."""
    tensorboard: bool = False
    """Also write the log as TensorBoard events."""
    workload: Workload | None = None
    """What a micro-batch costs; with it the log has throughput."""

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
        if self.micro_batches < 1:
            raise ValueError(f"micro_batches is {self.micro_batches}; expected at least 1")

    def rate_factor(self, step: int, progress: float) -> float:
        """Compute the factor of learning rates in a step: linear warm-up, then stepwise decay.

        Args:
            step: the step.
            progress: fraction of the run that is done.
        """
        factor = 1.0
        for fraction, value in self.decay:
            factor = value if progress >= fraction else factor
        return factor * min(1.0, (step + 1) / max(1, self.warmup_steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What `fit` reports."""

    steps: int
    """Steps done, resumed parts included."""
    seconds: float
    """Seconds trained, resumed parts included."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """Figures of the last evaluation."""
    finished: bool = True
    """Whether the run is over; False: it was ended early, and the same command goes on from its checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(Generic[M]):
    """What is trained, and how its loss is computed."""

    loss: LossFunction[M]
    """Computes the loss of a micro-batch."""
    evaluate: EvaluateFunction[M] | None = None
    """Computes figures for the log, now and then."""
    good_enough: Callable[[Mapping[str, float]], bool] | None = None
    """Gets the figures of each evaluation; True ends the run."""
    orthogonal: Sequence[nn.Parameter] = ()
    """Weights to train with `Muon` instead of AdamW."""
    part: Callable[[int], str] = lambda step: ""
    """The part of the model that a step trains, by the beginning of parameter names; other gradients are dropped."""
    draws: Callable[[int], int] = lambda step: step
    """The number that seeds a step's draws: where parts take turns, each may count its own steps."""
    watch: WatchFunction | None = None
    """Called after each step in place of a progress bar. The first rank calls it, and its answer counts for all."""
    batch_name: Callable[[int, torch.Generator], Mapping[str, object]] = lambda step, generator: {}
    """Names the contents of a micro-batch for people. It gets what `loss` gets, and draws what `loss` draws."""
    old_names: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of parameter names in checkpoints of older versions, and what they are now."""
