"""An exponential moving average of a model's parameters."""

import torch
from torch import nn

from bdiff_train.engine.distributed import own_part, whole


class Average:
    """An exponential moving average of a model's parameters.

    Args:
        model: whose parameters to average; they are the first value. Where they are split among ranks, so is this.
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
        torch._foreach_lerp_(
            [own_part(value) for value in self.values.values()],
            [own_part(current[name].detach()) for name in self.values],
            1 - decay,
        )

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averages into the parameters of a model that is whole; all ranks must take part."""
        for name, parameter in model.named_parameters():
            parameter.copy_(whole(self.values[name]))

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange averages and parameters; twice gives back what was."""
        for name, parameter in model.named_parameters():
            kept = parameter.clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)
