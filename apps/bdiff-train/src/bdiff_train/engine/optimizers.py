"""The optimizers of a run: AdamW, and Muon for the matrices that it is told to train so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bdiff_train.engine.muon import Muon

Rates = tuple[tuple[str, float], ...]
"""(beginning of parameter names, factor of AdamW's learning rate)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Learning rates and what else optimizers want to know."""

    learning_rate: float
    """Of AdamW, after warm-up."""
    orthogonal_learning_rate: float
    """Of Muon."""
    orthogonal_dtype: torch.dtype
    """Of Muon's iteration."""
    rates: Rates
    """Parts of the model whose learning rate under AdamW differs; the rest has factor 1."""
    weight_decay: float
    """Of AdamW, on weights of two or more axes."""
    betas: tuple[float, float]
    """Of AdamW."""


class Optimizers:
    """The optimizers of a model's parameters, each of which belongs to one of them.

    Args:
        parameters: by name, in the order of the model.
        orthogonal: names of those that Muon trains.
        config: rates and the like.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], orthogonal: Sequence[str], config: OptimizerConfig
    ) -> None:
        chosen = set(orthogonal)
        others = {name: p for name, p in parameters.items() if name not in chosen}
        groups, rates = [], []
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
        """Apply the gradients, at this factor of the first learning rates; weights without a gradient stay."""
        for optimizer, rates in zip(self.all, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
