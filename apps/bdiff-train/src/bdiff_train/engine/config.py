"""What a run is told: its settings, and what is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bdiff_train.engine.distributed import Sharding
from bdiff_train.engine.guards import GuardConfig
from bdiff_train.engine.log import Work
from bdiff_train.engine.optimizers import Rates

LossFunction = Callable[[nn.Module, int, torch.Generator], tuple[Float[Tensor, ""], Mapping[str, float]]]
"""``loss(model, step, generator)`` gives the loss of a micro-batch and figures for the log; it draws from the generator
alone."""

WatchFunction = Callable[[float], bool]
"""``watch(fraction)`` is told after each step how much of the run is done; True ends it early, to be gone on with."""

EvaluateFunction = Callable[[nn.Module], Mapping[str, float]]
"""``evaluate(model)`` gives figures for the log; the model holds the averaged weights meanwhile."""


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
    micro_batches: int = 1
    """Batches that a step averages the gradients of; ranks divide them, and each adds up its own."""
    learning_rate: float = 1e-4
    """Of AdamW, after warm-up."""
    orthogonal_learning_rate: float = 0.02
    """Of Muon, for the weights that `fit` is told to train so."""
    orthogonal_dtype: torch.dtype = torch.float32
    """Of Muon's iteration."""
    rates: Rates = ()
    """Factors of AdamW's learning rate for parts of the model, by the beginning of parameter names."""
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
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Which steps are refused."""
    sharding: Sharding = "whole"
    """How several ranks split the model."""
    checkpoint_minutes: float = 3.0
    """Between checkpoints; 0: after every step."""
    evaluate_minutes: float = 3.0
    """Between evaluations, which also happen at the end."""
    log_steps: int = 20
    """Steps that a line of the log averages."""
    tensorboard: bool = False
    """Write the log as TensorBoard's events, too."""
    work: Work | None = None
    """What a micro-batch comes to; with it the log tells throughput."""

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
    finished: bool = True
    """Whether the run is over; False: it was ended early, and the same command goes on from its checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is trained: everything that `fit` does not know of itself."""

    loss: LossFunction
    """Of a micro-batch."""
    evaluate: EvaluateFunction | None = None
    """Figures for the log, now and then."""
    good_enough: Callable[[Mapping[str, float]], bool] | None = None
    """Stops the run early when it says so of the figures of an evaluation."""
    orthogonal: Sequence[nn.Parameter] = ()
    """Weights to train with `Muon` instead of AdamW."""
    part: Callable[[int], str] = lambda step: ""
    """Which part of the model a step trains, by the beginning of parameter names; gradients of others are dropped."""
    draws: Callable[[int], int] = lambda step: step
    """By which number a step draws: where parts take turns, each may count its own steps."""
    watch: WatchFunction | None = None
    """In place of a progress bar; on the first rank, whose word counts."""
    batch_name: Callable[[int, torch.Generator], Mapping[str, object]] = lambda step, generator: {}
    """What a micro-batch consists of, for people; given what `loss` is given, it draws what `loss` draws."""
