"""The processes of a run: one, or those that torchrun started, among which FSDP2 splits the model.

A step consists of micro-batches that are functions of (seed, step, number). Ranks divide them; a rank with several adds
their gradients up. So a run on two ranks is the run on one, but for rounding, and may go on with any number of ranks.
"""

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

_PATIENCE = timedelta(hours=6)
"""Ranks wait so long for each other: the first one alone encodes stories and draws previews."""

_FAREWELL = 0.2
"""Seconds for gloo's threads to let go of their last tensors, before the process may end.

To let go of a tensor that Python knows takes the interpreter's lock. A thread that asks an ending interpreter for it
aborts the process (before Python 3.14), and to destroy the group does not end its threads."""

Sharding = Literal["blocks", "whole"]
"""`blocks`: each module of a `ModuleList` is gathered when it runs, and freed after it; the loss may call the model's
`forward` alone. `whole`: all parameters are gathered for the length of a micro-batch, so the loss may call any method;
gradients, averages and the optimizer's states are split all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """Which of how many processes this is."""

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """Of the process group, if there is one."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(index=dist.get_rank(), count=dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.index == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, the same on each."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def agreed(self, seconds: float) -> float:
        """The first rank's number: its clock decides for all when something is due."""
        return self.total(torch.tensor(seconds if self.is_first else 0.0, dtype=torch.float64)).item()

    def from_first(self, value: Any) -> Any:
        """The first rank's value."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def torchrun() -> Iterator[Ranks]:
    """The ranks that torchrun started, as long as this lasts; without torchrun a single one."""
    if _processes() == 1:
        yield Ranks()
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks.current()
    finally:
        dist.destroy_process_group()
        time.sleep(_FAREWELL)


def require_one_process(what: str) -> None:
    """Refuse to train something under torchrun.

    Raises:
        ValueError: If torchrun started several processes.
    """
    if _processes() > 1:
        raise ValueError(
            f"{what} trains in one process, and torchrun started {_processes()}: run the command without it"
        )


def check_division(micro_batches: int) -> None:
    """Refuse micro-batches that the processes cannot share evenly.

    Raises:
        ValueError: If their number is no multiple of that of the processes.
    """
    count = Ranks.current().count if dist.is_initialized() else _processes()
    if micro_batches % count:
        raise ValueError(
            f"micro_batches is {micro_batches}; {count} ranks divide them, so it must be a multiple of {count}"
        )


def is_first() -> bool:
    """Whether this is the only process, or the first that torchrun started; also after `torchrun` has ended."""
    return int(os.environ.get("RANK", "0")) == 0


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


class Trainee(nn.Module):
    """A model in training. On one rank it is the model itself, on several a copy that is split among them.

    Its `forward` is whatever is to be computed with the model: only in there is all of it at hand.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, *, sharding: Sharding) -> None:
        super().__init__()
        self.model = model if ranks.count == 1 else copy.deepcopy(model)
        self._ranks = ranks
        if ranks.count > 1:
            self._split(sharding)

    def forward(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """``compute(model, *arguments)``."""
        return compute(self.model, *arguments)

    def exchange_gradients(self, now: bool) -> None:
        """Whether the next backward pass is the step's last, after which ranks average their gradients."""
        if self._ranks.count > 1:
            self.set_requires_gradient_sync(now)

    def _split(self, sharding: Sharding) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (self._ranks.count,))
        if sharding == "blocks":
            for blocks in [module for module in self.modules() if isinstance(module, nn.ModuleList)]:
                for block in blocks:
                    fully_shard(block, mesh=mesh)
        fully_shard(self, mesh=mesh)


def own_part(x: Tensor) -> Tensor:
    """What this rank holds of a tensor; writing to it writes to the tensor."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """The tensor with the parts of all ranks, which must all ask for it."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def split_like(x: Tensor, like: Tensor) -> Tensor:
    """A tensor that every rank holds whole, split as another one is."""
    if not isinstance(like, DTensor):
        return x
    mesh = like.device_mesh
    return DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(mesh, like.placements)
