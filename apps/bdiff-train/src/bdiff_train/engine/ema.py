"""An exponential moving average of a model's parameters."""

import torch
from torch import nn

from bdiff_train.engine.distributed import full_tensor, local_part


class WeightAverage:
    """An exponential moving average of a model's parameters.

    Args:
        model: the model whose parameters are averaged; they are the first value. Where they are split among ranks, the
            average is split alike.
        decay: share of the old value at each update; smaller in the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the parameters after a step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        current = dict(model.named_parameters())
        torch._foreach_lerp_(
            [local_part(value) for value in self.values.values()],
            [local_part(current[name].detach()) for name in self.values],
            1 - decay,
        )

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averages into the parameters of a model that is not split; all ranks must call this."""
        for name, parameter in model.named_parameters():
            parameter.copy_(full_tensor(self.values[name]))

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange averages and parameters; doing it twice restores both."""
        for name, parameter in model.named_parameters():
            kept = parameter.clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)
