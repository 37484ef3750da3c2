"""A training run: steps, schedule, averaging, checkpoints and log. What is trained is a function that returns a loss.

Every random draw of a step comes from a generator seeded by (seed, step, micro-batch), and a checkpoint holds all that
the next step reads. So a run that was killed and started again ends with the weights of one that was not. The exception
is a run that ends by ``minutes`` and not by ``max_steps``: its learning rates follow the clock, and only the draws are
the same.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import nn

from bdiff.run import keep_freed_memory
from bdiff_train.engine.checkpoint import Checkpoints
from bdiff_train.engine.config import EvaluateFunction, LossFunction, M, RunConfig, RunResult, Task
from bdiff_train.engine.distributed import DistributedModel, Ranks, check_division, full_tensor
from bdiff_train.engine.ema import WeightAverage
from bdiff_train.engine.guards import Guard, note_batch
from bdiff_train.engine.log import TrainingLog, plot_log
from bdiff_train.engine.optimizers import OptimizerConfig, Optimizers
from bdiff_train.engine.shards import TrainingState

logger = logging.getLogger(__name__)


def fit(model: M, config: RunConfig, task: Task[M]) -> RunResult:
    """Train a model, or go on from the checkpoint in ``config.out``; the model ends with averaged weights.

    Under torchrun (see `distributed.torchrun`) the ranks split a copy of the model among them. The model itself stays
    whole on each rank. It receives the averages for evaluations, which the first rank makes, and holds them at the end.

    Args:
        model: the model to train, in place.
        config: settings of the run.
        task: the loss, and what else is special about this training.

    Raises:
        FloatingPointError: if ``config.guard.bad_steps`` steps in a row were refused; their batches are in
            ``bad_batches.jsonl``.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    run = _Run(model, config, task)
    run.resume()
    done = paused = False
    if run.fraction() >= 1 and run.ranks.is_first:
        logger.warning("the training in %s is over; give more steps or minutes to go on with it", config.out)
    with _progress_line(silent=not run.ranks.is_first or task.watch is not None) as line:
        bar = line.add_task("training", total=1.0, note="")
        while not done and not paused and run.fraction() < 1:
            _advance(line, bar, run, run.step(task.loss))
            over = run.fraction() >= 1
            if over:
                run.log_rest()
            if task.evaluate and (over or run.due("evaluate", config.evaluate_minutes)):
                run.evaluate(task.evaluate)
                done = task.good_enough is not None and task.good_enough(run.progress.evaluation)
            paused = run.asked_to_stop() and not over
            if over or done or paused or run.due("checkpoint", config.checkpoint_minutes):
                run.save()
    run.log.close()
    run.average.copy_to(model)
    return RunResult(
        steps=run.progress.step,
        seconds=run.progress.seconds,
        evaluation=run.progress.evaluation,
        finished=done or not paused,
    )


def step_generator(seed: int, step: int, micro_batch: int = 0) -> torch.Generator:
    """Make the generator of a micro-batch's draws: a function of (seed, step, micro_batch) alone."""
    state = np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@dataclass(kw_only=True, slots=True)
class _Progress:
    """The part of a run's state that is not tensors."""

    step: int = 0
    seconds: float = 0.0
    evaluation: dict[str, float] = field(default_factory=dict)


class _Run(Generic[M]):
    def __init__(self, model: M, config: RunConfig, task: Task[M]) -> None:
        self.model, self.config, self.task, self.ranks = model, config, task, Ranks.current()
        check_division(config.micro_batches)
        self.distributed = DistributedModel(model, self.ranks, sharding=config.sharding)
        self.average = WeightAverage(self.distributed.model, config.ema_decay)
        chosen = {id(p) for p in task.orthogonal}
        self.optimizers = Optimizers(
            dict(self.distributed.model.named_parameters()),
            [name for name, p in model.named_parameters() if id(p) in chosen],
            OptimizerConfig(
                learning_rate=config.learning_rate,
                orthogonal_learning_rate=config.orthogonal_learning_rate,
                orthogonal_dtype=config.orthogonal_dtype,
                rates=config.rates,
                weight_decay=config.weight_decay,
                betas=config.betas,
            ),
        )
        self.progress, self.guard = _Progress(), Guard(config=config.guard)
        self.checkpoints = Checkpoints(config.out, self.ranks, old_names=task.old_names)
        self.log = TrainingLog(config.out, silent=not self.ranks.is_first, tensorboard=config.tensorboard)
        self._last = {"evaluate": 0.0, "checkpoint": 0.0}
        self._busy = 0.0  # seconds of the steps since the last line of the log

    def fraction(self) -> float:
        """The fraction of the run that is done; 1 at its end."""
        steps = self.config.max_steps
        of_steps = self.progress.step / steps if steps is not None else 0.0
        return max(of_steps, self.progress.seconds / 60 / self.config.minutes)

    def due(self, what: str, minutes: float) -> bool:
        """Whether so much training time has passed since this last happened."""
        if self.progress.seconds - self._last[what] < 60 * minutes:
            return False
        self._last[what] = self.progress.seconds
        return True

    def asked_to_stop(self) -> bool:
        """Call the first rank's `Task.watch`, and return its answer on all ranks."""
        watch = self.task.watch
        if watch is None:
            return False
        return bool(self.ranks.from_first(watch(self.fraction()) if self.ranks.is_first else False))

    def step(self, loss: LossFunction[M]) -> float:
        started = time.perf_counter()
        progress, config = self.progress, self.config
        factor = config.rate_factor(progress.step, self.fraction())
        part = self.task.part(progress.step)
        losses, figures = self._gradients(loss)
        norm = self._clip(part)
        value = math.fsum(losses) / len(losses)
        wrong = self.guard.complaint(part, value, norm)
        if wrong is None:
            self.optimizers.step(factor)
            self.average.update(self.distributed.model, progress.step)
        self.distributed.zero_grad(set_to_none=True)
        if wrong is not None:
            self._refuse(losses, norm, wrong)
        progress.step += 1
        elapsed = self.ranks.agreed(time.perf_counter() - started)
        progress.seconds += elapsed
        self._busy += elapsed
        measured = {"loss": value, "gradient": norm}
        of_part = {f"{part}{name}": figure for name, figure in measured.items()} if part else {}
        self.log.add({**measured, "learning_rate": config.learning_rate * factor, **of_part, **figures})
        if progress.step % config.log_steps == 0:
            self.log_rest()
        return value

    def _gradients(self, loss: LossFunction[M]) -> tuple[list[float], dict[str, float]]:
        """Add up the gradients of this rank's micro-batches; return all losses, and the means of their figures."""
        config, step, total = self.config, self.progress.step, self.config.micro_batches
        drawn = self.task.draws(step)
        own = range(self.ranks.index, total, self.ranks.count)
        self.distributed.train()
        losses = torch.zeros(total, dtype=torch.float64)
        figures: dict[str, float] = {}
        for number in own:
            self.distributed.exchange_gradients(number == own[-1])
            value, found = self.distributed(loss, step, step_generator(config.seed, drawn, number))
            (value / len(own)).backward()
            losses[number] = value.item()
            for name, figure in found.items():
                figures[name] = figures.get(name, 0.0) + figure / len(own)
        return self.ranks.total(losses).tolist(), figures

    def _clip(self, part: str) -> float:
        """Drop gradients of parts that this step does not train, and shorten the rest; return the norm they had."""
        trained, gradients = [], []
        for name, p in self.distributed.model.named_parameters():
            if not name.startswith(part):
                p.grad = None
            elif p.grad is not None:
                trained.append(p)
                gradients.append(p.grad)
        norm = full_tensor(nn.utils.get_total_norm(gradients))
        nn.utils.clip_grads_with_norm_(trained, self.config.clip_norm, norm)
        return norm.item()

    def _refuse(self, losses: Sequence[float], norm: float, why: str) -> None:
        """Log the batches of a refused step, and end the run after too many in a row."""
        step, config = self.progress.step, self.config
        drawn = self.task.draws(step)
        value = math.fsum(losses) / len(losses)
        micro_batches = [
            {
                "seed": config.seed,
                "step": drawn,
                "micro_batch": number,
                "loss": f"{one:.6g}",
                **self.task.batch_name(step, step_generator(config.seed, drawn, number)),
            }
            for number, one in enumerate(losses)
        ]
        named = f"{len(micro_batches)} micro-batches"
        if self.ranks.is_first:
            file = config.out / "bad_batches.jsonl"
            named = note_batch(file, step=step, loss=value, norm=norm, why=why, micro_batches=micro_batches)
            logger.warning("step %d has loss %g and gradient %g (%s); skipped: %s", step, value, norm, why, named)
        if self.guard.gives_up:
            raise FloatingPointError(
                f"no usable loss or gradient in {self.guard.bad} steps up to step {step}; lower the learning rate "
                f"and start again from {self.checkpoints.file.parent}. The last one: {why}, {named}"
            )

    def log_rest(self) -> None:
        """Write the line of the steps since the last line, if there are any."""
        if not len(self.log):
            return
        config, workload = self.config, self.config.workload
        done = config.micro_batches * len(self.log)
        more = workload.figures(done, self._busy, num_ranks=self.ranks.count) if workload else {}
        self.log.flush(self.progress.step, self.progress.seconds, **more)
        self._busy = 0.0

    @contextmanager
    def _averaged(self) -> Iterator[M]:
        """Give the model, not split, with averaged weights."""
        if self.ranks.count > 1:
            self.average.copy_to(self.model)
            yield self.model
            return
        self.average.swap(self.model)
        yield self.model
        self.average.swap(self.model)

    def evaluate(self, evaluate: EvaluateFunction[M]) -> None:
        started = time.perf_counter()
        with self._averaged() as model:
            model.eval()
            with torch.no_grad():
                figures = dict(evaluate(model)) if self.ranks.is_first else {}
        self.progress.evaluation, seconds = self.ranks.from_first((figures, time.perf_counter() - started))
        self.progress.seconds += seconds
        self.log.write(self.progress.step, self.progress.seconds, self.progress.evaluation)
        if self.ranks.is_first:
            plot_log(self.log.path, self.config.out / "curve.png")

    def save(self) -> None:
        progress = self.progress
        facts = {"step": progress.step, "seconds": progress.seconds, "evaluation": progress.evaluation}
        self.checkpoints.save(self._state, {**facts, "guard": {"bad": self.guard.bad, "past": self.guard.past}})

    def resume(self) -> None:
        facts = self.checkpoints.load(self._state)
        if facts is not None:
            guard = facts.pop("guard", {})  # checkpoints of earlier versions have none
            self.progress, self.guard = _Progress(**facts), Guard(config=self.config.guard, **guard)
            self._last = dict.fromkeys(self._last, self.progress.seconds)
            logger.info("going on at step %d after %.0f s", self.progress.step, self.progress.seconds)
        self.log.begin(self.progress.step)

    @property
    def _state(self) -> TrainingState:
        return TrainingState(distributed=self.distributed, average=self.average, optimizers=self.optimizers.all)


def _progress_line(*, silent: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal)


def _advance(line: Progress, bar: TaskID, run: _Run[M], value: float) -> None:
    line.update(bar, completed=run.fraction(), note=f"step {run.progress.step} loss {value:.4f}")
