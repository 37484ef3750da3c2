"""The optimizers of a run: AdamW, and Muon for the matrices that a task names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bdiff_train.engine.muon import Muon

Rates = tuple[tuple[str, float], ...]
"""(beginning of parameter names, factor of AdamW's learning rate)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Learning rates and other settings of the optimizers."""

    learning_rate: float
    """Learning rate of AdamW after warm-up."""
    orthogonal_learning_rate: float
    """Learning rate of Muon after warm-up."""
    orthogonal_dtype: torch.dtype
    """Number type of Muon's iteration."""
    rates: Rates
    """Parts of the model with another learning rate under AdamW; the rest has factor 1."""
    weight_decay: float
    """Weight decay of AdamW, on weights of two or more axes."""
    betas: tuple[float, float]
    """Decay rates of AdamW's moments."""


class Optimizers:
    """The optimizers of a model; each parameter belongs to one of them.

    Args:
        parameters: parameters by name, in the order of the model.
        orthogonal: names of the parameters that Muon trains.
        config: learning rates and other settings.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], orthogonal: Sequence[str], config: OptimizerConfig
    ) -> None:
        chosen = set(orthogonal)
        others = {name: p for name, p in parameters.items() if name not in chosen}
        groups: list[dict[str, Any]] = []
        rates: list[float] = []
        for prefix, factor in (*config.rates, ("", 1.0)):
            part = {name: p for name, p in others.items() if name.startswith(prefix)}
            others = {name: p for name, p in others.items() if name not in part}
            matrices, rest = ([p for p in part.values() if (p.ndim > 1) == wide] for wide in (True, False))
            groups.append({"params": matrices, "weight_decay": config.weight_decay})
            groups.append({"params": rest, "weight_decay": 0.0})
            rates += [config.learning_rate * factor] * 2
        adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
        self.all: list[torch.optim.Optimizer] = [adamw]
        self._rates = [rates]
        if chosen:
            members = [p for name, p in parameters.items() if name in chosen]
            self.all.append(Muon(members, config.orthogonal_learning_rate, dtype=config.orthogonal_dtype))
            self._rates.append([config.orthogonal_learning_rate])

    def step(self, factor: float) -> None:
        """Apply the gradients at this factor of the configured learning rates; weights without a gradient stay."""
        for optimizer, rates in zip(self.all, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
