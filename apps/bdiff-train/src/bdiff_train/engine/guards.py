"""Refuses steps whose loss or gradient is not finite or far above the usual, and says which batches they had."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """Which steps are refused, and how many of them end a run."""

    spike: float = 100.0
    """A loss or gradient norm this many times its median over the last accepted steps is refused; inf: never."""
    window: int = 64
    """Number of steps in that median; before there are this many, nothing counts as a spike."""
    bad_steps: int = 20
    """Number of refused steps in a row that ends the run; 1: the first one does."""

    def __post_init__(self) -> None:
        if self.spike <= 1 or self.window < 1 or self.bad_steps < 1:
            raise ValueError(
                f"spike is {self.spike}, window {self.window}, bad_steps {self.bad_steps}; expected a factor above 1 "
                "and two positive numbers"
            )


@dataclass(kw_only=True, slots=True)
class Guard:
    """Remembers accepted steps and compares new ones with them; parts that take turns are compared separately."""

    config: GuardConfig
    bad: int = 0
    """Refused steps in a row."""
    past: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Loss and gradient norm of the last accepted steps of each part."""

    def complaint(self, part: str, loss: float, norm: float) -> str | None:
        """Say what is wrong with a step; None: nothing, and the step is remembered."""
        past = self.past.setdefault(part, [])
        wrong = self._wrong(past, loss, norm)
        if wrong is not None:
            self.bad += 1
            return wrong
        self.bad = 0
        past.append((loss, norm))
        del past[: -self.config.window]
        return None

    @property
    def gives_up(self) -> bool:
        """Whether too many steps in a row were refused."""
        return self.bad >= self.config.bad_steps

    def _wrong(self, past: Sequence[tuple[float, float]], loss: float, norm: float) -> str | None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return "not finite"
        if len(past) < self.config.window:
            return None
        for name, value, usual in zip(("loss", "gradient"), (loss, norm), zip(*past, strict=True), strict=True):
            middle = statistics.median(usual)
            if middle > 0 and value > self.config.spike * middle:
                return f"the {name} is {value / middle:.0f} times its median of {len(past)} steps, {middle:.4g}"
        return None


def note_batch(
    file: Path, *, step: int, loss: float, norm: float, why: str, micro_batches: Sequence[Mapping[str, object]]
) -> str:
    """Append a refused step and its micro-batches to a file; return the micro-batches as text."""
    line = {"step": step, "loss": repr(loss), "gradient": repr(norm), "why": why, "micro_batches": micro_batches}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")
    return "; ".join(", ".join(f"{name} {value}" for name, value in batch.items()) for batch in micro_batches)
