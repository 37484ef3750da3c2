"""What a run writes down: ``log.jsonl``, its curves, and TensorBoard events on request."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_core.files import whole_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What a micro-batch costs, from which the log computes throughput."""

    tokens: int
    """Tokens that pass through the transformer."""
    flops: int | None = None
    """Operations of forward and backward passes, without recomputed activations; None: unknown."""
    rate: float | None = None
    """Operations a second of this machine in large matrix products."""

    def figures(self, micro_batches: int, seconds: float, *, num_ranks: int = 1) -> dict[str, float]:
        """Compute throughput, and the share of the matrix-product rate of all ranks together."""
        found = {"tokens_per_second": self.tokens * micro_batches / seconds}
        if self.flops and self.rate:
            found["matmul_share"] = self.flops * micro_batches / seconds / (self.rate * num_ranks)
        return found


class TrainingLog:
    """``log.jsonl`` of a run: a line holds the means of some steps, or the figures of an evaluation.

    Args:
        out: folder of the run.
        silent: write nothing; for ranks other than the first.
        tensorboard: also write events below ``tensorboard/``.
    """

    def __init__(self, out: Path, *, silent: bool = False, tensorboard: bool = False) -> None:
        self.path = out / "log.jsonl"
        self._silent = silent
        self._events = out / "tensorboard" if tensorboard and not silent else None
        self._writer: Any = None
        self._window: list[dict[str, float]] = []
        if self._events is not None:
            require_tensorboard()

    def __len__(self) -> int:
        return len(self._window)

    def begin(self, step: int) -> None:
        """Drop the lines that a killed run logged after the step at which this one begins; they are logged again."""
        if self._silent:
            return
        if self._events is not None:
            self._writer = require_tensorboard()(log_dir=str(self._events), purge_step=step + 1 if step else None)
        if step == 0:
            self.path.unlink(missing_ok=True)
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step(line) <= step]
        write_whole(self.path, "".join(line + "\n" for line in kept))

    def add(self, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step for the next line."""
        self._window.append(dict(figures))

    def flush(self, step: int, seconds: float, **more: float) -> None:
        """Write a line with the means since the last one; each figure is averaged over the steps that have it."""
        names = dict.fromkeys(name for entry in self._window for name in entry)
        values = {name: [entry[name] for entry in self._window if name in entry] for name in names}
        self._window.clear()
        self.write(step, seconds, {name: sum(found) / len(found) for name, found in values.items()} | more)

    def write(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """Write a line."""
        if self._silent:
            return
        line = {"step": step, "seconds": round(seconds, 1), **figures}
        with self.path.open("a", encoding="utf-8") as file:
            rounded = {name: value if name == "step" else float(f"{value:.6g}") for name, value in line.items()}
            file.write(json.dumps(rounded) + "\n")
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the events that are still held back."""
        if self._writer is not None:
            self._writer.close()


def _step(line: str) -> float:
    """Read the step of a line; inf for a line that a full disk or a crash cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def plot_log(log: Path, target: Path) -> None:
    """Draw losses and figures of evaluations over the steps of a log as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "loss" not in line]
    names = sorted({name for line in evaluations for name in line} - {"step", "seconds"})
    figure = Figure(figsize=(7, 2.6 * (1 + len(names))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + len(names), 1, squeeze=False)[:, 0]
    # where parts take turns, the mean of their losses says nothing
    parts = sorted({name for line in losses for name in line if name.endswith(".loss")}) or ["loss"]
    for name in parts:
        shown = [line for line in losses if name in line]
        axes[0].plot([line["step"] for line in shown], [line[name] for line in shown], linewidth=0.8, label=name)
    positive = all(line[name] > 0 for line in losses for name in parts if name in line)
    axes[0].set(xlabel="step", ylabel="loss", yscale="log" if positive else "linear")
    if len(parts) > 1:
        axes[0].legend()
    for axis, name in zip(axes[1:], names, strict=True):
        shown = [line for line in evaluations if name in line]
        axis.plot([line["step"] for line in shown], [line[name] for line in shown], marker="o")
        axis.set(xlabel="step", ylabel=name)
    with whole_file(target) as partial:
        figure.savefig(partial, dpi=110, format="png")


def require_tensorboard() -> Any:
    """Return the class that writes TensorBoard events.

    Raises:
        ValueError: If the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs the package tensorboard: pip install 'bdiff-train[tensorboard]'"
        ) from None
    return SummaryWriter
