"""The training loop that all trainers share: steps, optimizers, averages, checkpoints, guards and log.

Example:
    >>> def loss(model, step, generator):
    ...     x = torch.randn(8, 5, generator=generator)
    ...     return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}
    >>> result = fit(torch.nn.Linear(5, 1), RunConfig(out=Path("runs/line"), max_steps=100), Task(loss=loss))
"""

from bdiff_train.engine.config import Loss, RunConfig, RunResult, Task, WatchFunction
from bdiff_train.engine.distributed import torchrun
from bdiff_train.engine.guards import GuardConfig
from bdiff_train.engine.log import Workload
from bdiff_train.engine.loop import fit, step_generator
from bdiff_train.engine.muon import Muon, iteration_flops, orthogonalize

__all__ = [  # noqa: RUF022 (grouped by use)
    # a run
    "fit",
    "RunConfig",
    "RunResult",
    "Task",
    "Loss",
    "WatchFunction",
    "GuardConfig",
    "Workload",
    "step_generator",
    "torchrun",
    # Muon
    "Muon",
    "iteration_flops",
    "orthogonalize",
]
