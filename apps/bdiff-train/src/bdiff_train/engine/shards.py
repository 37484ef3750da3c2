"""The state of a run, and its shards: each rank writes and reads its part, by names that any number of ranks uses."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from bdiff_train.engine.damage import damage_named
from bdiff_train.engine.distributed import DistributedModel
from bdiff_train.engine.ema import WeightAverage


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """The tensors of a run, which checkpoints write, and restore in place."""

    distributed: DistributedModel
    average: WeightAverage
    optimizers: Sequence[Optimizer]


def write_shards(state: TrainingState, folder: Path) -> None:
    """Write the parts of all ranks, which must all call this."""
    from torch.distributed.checkpoint.state_dict_saver import save

    save(_tensors(state, {}), checkpoint_id=str(folder))


def stored_names(state: TrainingState, folder: Path, old_names: Mapping[str, str]) -> dict[str, str]:
    """Find the names under which shards hold the model's parameters, by today's names.

    Args:
        state: The state to restore.
        folder: The shards.
        old_names: Beginnings of names in older versions, and what they are now.

    Raises:
        ValueError: If the shards are of a model with other parameters, or damaged.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    with damage_named(folder):
        stored = FileSystemReader(str(folder)).read_metadata().state_dict_metadata
    found = {}
    for name in state.distributed.model.state_dict():
        spellings = [name, *(old + name.removeprefix(new) for old, new in old_names.items() if name.startswith(new))]
        known = next((spelling for spelling in spellings if f"model.{spelling}" in stored), None)
        if known is None:
            raise ValueError(f"{folder} is of another model: it has no {name}")
        found[name] = known
    return found


def read_shards(state: TrainingState, folder: Path, names: Mapping[str, str]) -> None:
    """Restore the state in place; all ranks must call this.

    Args:
        state: The state to restore.
        folder: The shards.
        names: The names of parameters in the shards, by today's names.
    """
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    model = state.distributed.model
    content = _tensors(state, names)
    # A part that has not been trained yet has no state in the shards; here it has one, which must say so.
    for optimizer in content["optimizers"].values():
        for entry in optimizer["state"].values():
            if "step" in entry:
                entry["step"].zero_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process, as intended
        planner = DefaultLoadPlanner(allow_partial_load=True)
        load(content, storage_reader=FileSystemReader(str(folder)), planner=planner)
    today = {stored: name for name, stored in names.items()}
    model.load_state_dict(_named(content["model"], today))
    state.average.values.update(_named(content["average"], today))
    for number, optimizer in enumerate(state.optimizers):
        groups = get_optimizer_state_dict(model, optimizer)["param_groups"]
        loaded = {"state": _named(content["optimizers"][str(number)]["state"], today), "param_groups": groups}
        set_optimizer_state_dict(model, optimizer, loaded)


def _tensors(state: TrainingState, names: Mapping[str, str]) -> dict[str, Any]:
    """The tensors of a state; parameters get other names where `names` has them."""
    model = state.distributed.model
    moments = [_moments(model, optimizer) for optimizer in state.optimizers]
    return {
        "model": _named(model.state_dict(), names),
        "average": _named(state.average.values, names),
        "optimizers": {str(number): {"state": _named(found, names)} for number, found in enumerate(moments)},
    }


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """What an optimizer remembers of each parameter, by the parameter's name."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    found = get_optimizer_state_dict(model, optimizer)["state"]
    assert isinstance(found, dict)
    return found


def _named(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The values under other names where `names` has them."""
    return {names.get(name, name): value for name, value in values.items()}
