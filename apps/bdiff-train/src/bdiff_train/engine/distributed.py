"""The processes of a run: one, or those that torchrun started, among which FSDP2 splits the model.

A step consists of micro-batches that are functions of (seed, step, number). Ranks divide them, and a rank with several
adds up their gradients. So a run on two ranks is the run on one, up to rounding, and may go on with any number of
ranks.
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

_TIMEOUT = timedelta(hours=6)
"""How long ranks wait for each other: the first one alone encodes stories and draws previews."""

_EXIT_SECONDS = 0.2
"""Time for gloo's threads to release their last tensors before the process may end.

To release a tensor that Python knows, a thread takes the interpreter's lock. Before Python 3.14, a thread that asks an
interpreter for its lock while it shuts down aborts the process, and destroying the group does not end its threads."""

Sharding = Literal["blocks", "whole"]
"""`blocks`: each module of a `ModuleList` is gathered when it runs and freed after it; all ranks must run it equally
often. `whole`: all parameters are gathered for the length of a micro-batch, so the loss may call any method as often as
it likes. Gradients, averages and the optimizer's states are split in both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """The number of processes, and which of them this is."""

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """The ranks of the process group, if there is one; otherwise a single one."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(index=dist.get_rank(), count=dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.index == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks, the same on each."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def agreed(self, seconds: float) -> float:
        """Return the first rank's number: its clock decides for all ranks when something is due."""
        return self.total(torch.tensor(seconds if self.is_first else 0.0, dtype=torch.float64)).item()

    def from_first(self, value: Any) -> Any:
        """Return the first rank's value."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def torchrun() -> Iterator[Ranks]:
    """Join the processes that torchrun started, and leave them at the end; without torchrun, give a single rank."""
    if _num_processes() == 1:
        yield Ranks()
        return
    dist.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield Ranks.current()
    finally:
        dist.destroy_process_group()
        time.sleep(_EXIT_SECONDS)


def require_one_process(what: str) -> None:
    """Refuse to train something under torchrun.

    Raises:
        ValueError: If torchrun started several processes.
    """
    if _num_processes() > 1:
        raise ValueError(
            f"{what} trains in one process, and torchrun started {_num_processes()}: run the command without it"
        )


def check_division(micro_batches: int) -> None:
    """Refuse a number of micro-batches that the processes cannot share evenly.

    Raises:
        ValueError: If it is no multiple of the number of processes.
    """
    count = Ranks.current().count if dist.is_initialized() else _num_processes()
    if micro_batches % count:
        raise ValueError(
            f"micro_batches is {micro_batches}; {count} ranks divide them, so it must be a multiple of {count}"
        )


def is_first() -> bool:
    """Whether this is the only process, or the first that torchrun started; also after `torchrun` has ended."""
    return int(os.environ.get("RANK", "0")) == 0


def _num_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


class DistributedModel(nn.Module):
    """A model in training. On one rank it holds the model itself, on several a copy that is split among them.

    Its `forward` runs any function of the model: only inside it are all parameters at hand.

    Args:
        model: the model to train.
        ranks: the processes that train it.
        sharding: how they split it.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, *, sharding: Sharding) -> None:
        super().__init__()
        self.model = model if ranks.count == 1 else copy.deepcopy(model)
        self._ranks = ranks
        if ranks.count > 1:
            self._split(sharding)

    def forward(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """Return ``compute(model, *arguments)``."""
        return compute(self.model, *arguments)

    def exchange_gradients(self, now: bool) -> None:
        """Say whether the next backward pass is the step's last, after which ranks average their gradients."""
        from torch.distributed.fsdp import FSDPModule

        if isinstance(self, FSDPModule):
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


def local_part(x: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds; writing to it writes to the tensor."""
    return x.to_local() if isinstance(x, DTensor) else x


def full_tensor(x: Tensor) -> Tensor:
    """Return the tensor with the parts of all ranks, which must all call this."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def split_like(x: Tensor, like: Tensor) -> Tensor:
    """Split a tensor that every rank holds in full as another one is split."""
    if not isinstance(like, DTensor):
        return x
    mesh = like.device_mesh
    return DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(mesh, like.placements)
