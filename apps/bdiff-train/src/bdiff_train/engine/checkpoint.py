"""What a run goes on from. One process keeps a file, several keep a folder of shards; either can be gone on with.

A single file (``checkpoint.pt``, replaced in one rename) is as simple as it gets, and all that one process needs. Of
many ranks none may be able to hold the whole state, so each writes its part by torch.distributed.checkpoint, into a
folder named after the step, which appears whole or not at all.
"""

import errno
import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bdiff_core.checkpoint.places import read_json
from bdiff_core.whole_file import whole_file
from bdiff_train.engine.distributed import Ranks, Trainee, split_like
from bdiff_train.engine.ema import Average

_FACTS = "run.json"
_PARTS = ("model", "average", "optimizers", "random", "step", "seconds", "evaluation")
"""What a file holds at the least."""
_DAMAGE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, EOFError, RuntimeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What torch raises of files that are cut off, or are no checkpoints."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """The tensors of a run, which checkpoints write and restore in place."""

    trainee: Trainee
    average: Average
    optimizers: Sequence[Optimizer]


class Checkpoints:
    """The checkpoints of a run.

    Args:
        out: folder of the run.
        ranks: who writes them.
    """

    def __init__(self, out: Path, ranks: Ranks) -> None:
        self.file = out / "checkpoint.pt"
        self._out, self._ranks = out, ranks

    def save(self, state: TrainingState, facts: dict[str, Any]) -> None:
        """Write the state after ``facts["step"]`` steps; earlier checkpoints go when it is there."""
        if self._ranks.count == 1:
            self._save_file(state, facts)
        else:
            self._save_folder(state, facts)
        self._ranks.wait()

    def load(self, state: TrainingState) -> dict[str, Any] | None:
        """Restore the newest checkpoint, whoever wrote it; returns its facts, or None where there is none."""
        folder = max(self._out.glob("checkpoint-*[0-9]"), default=None)
        content = self._content() if self.file.exists() else None
        if folder is not None:
            facts = self._facts(folder)
            if content is None or content["step"] < facts["step"]:
                _check_folder(state, folder)
                with _damage_named(folder):
                    _read_folder(state, folder)
                return facts
        if content is None:
            return None
        _check_same_model(state, content["model"], self.file)
        with _damage_named(self.file):
            _restore(state, content)
            torch.set_rng_state(content["random"])
        return {name: content[name] for name in ("step", "seconds", "evaluation", "guard") if name in content}

    def _content(self) -> dict[str, Any]:
        with _damage_named(self.file), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle that is none of torch's: it is refused all the same
            content: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
            if missing := [name for name in _PARTS if name not in content]:
                raise KeyError(missing[0])
            for tensors in (content["model"], content["average"]):
                if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
                    raise TypeError("a parameter is no tensor")
            return content

    def _facts(self, folder: Path) -> dict[str, Any]:
        with _damage_named(folder):
            facts: dict[str, Any] = read_json(folder / _FACTS)
            if not {"step", "seconds"} <= facts.keys():
                raise KeyError("step")
            return facts

    def _save_file(self, state: TrainingState, facts: dict[str, Any]) -> None:
        content = {
            "model": state.trainee.model.state_dict(),
            "average": state.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
            "random": torch.get_rng_state(),
            **facts,
        }
        with whole_file(self.file) as partial:
            torch.save(content, partial)
        self._remove(self._out.glob("checkpoint-*[0-9]"))

    def _save_folder(self, state: TrainingState, facts: dict[str, Any]) -> None:
        from torch.distributed.checkpoint.state_dict_saver import save

        folder = self._out / f"checkpoint-{facts['step']:09d}"
        partial = folder.with_name(f".{folder.name}.tmp")
        if self._ranks.is_first:
            shutil.rmtree(partial, ignore_errors=True)
        self._ranks.wait()
        save(_sharded(state), checkpoint_id=str(partial))
        if self._ranks.is_first:
            (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            older = [path for path in self._out.glob("checkpoint-*[0-9]") if path != folder]
            self._remove([folder])  # written again by a run that was stopped at this very step
            partial.replace(folder)
            self._remove([*older, *self._out.glob(".checkpoint-*.tmp")])
            self.file.unlink(missing_ok=True)

    def _remove(self, folders: Any) -> None:
        for folder in list(folders):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _damage_named(checkpoint: Path) -> Iterator[None]:
    """Errors of reading a checkpoint become a line that names it.

    Raises:
        ValueError: If it is damaged, or is none.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except (CheckpointException, *_DAMAGE) as error:
        if _is_no_damage(error):
            raise
        raise ValueError(
            f"{checkpoint} {_damage(error)}; delete it to train from the start, or give another --out"
        ) from None


def _is_no_damage(error: BaseException) -> bool:
    """Whether the file may be as good as ever: it cannot be read now, or memory is short."""
    if isinstance(error, OSError):  # of a file that is cut off: looked for beyond its end, or a part is missing
        return error.errno not in (errno.EINVAL, errno.ENOENT)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _damage(error: BaseException) -> str:
    """What is wrong with a checkpoint, by what torch raised."""
    if isinstance(error, OSError | EOFError | zipfile.BadZipFile) or "zip archive" in str(error):
        return "is cut off"
    return "is damaged, or was not written by this training"


def _check_same_model(state: TrainingState, stored: Mapping[str, Tensor], file: Path) -> None:
    """Refuse a checkpoint of a model with other parameters."""
    shapes = {name: tuple(value.shape) for name, value in state.trainee.model.state_dict().items()}
    for name in sorted(shapes.keys() | stored.keys()):
        found, expected = tuple(stored[name].shape) if name in stored else None, shapes.get(name)
        if found != expected:
            raise ValueError(
                f"{file} is of another model: it has {name} {found or 'nowhere'}, this one {expected or 'nowhere'}; go "
                "on with the settings that it was begun with, or give another --out"
            )


def _sharded(state: TrainingState) -> dict[str, Any]:
    """The tensors by names that do not depend on the number of ranks."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    model = state.trainee.model
    optimizers = [get_optimizer_state_dict(model, optimizer) for optimizer in state.optimizers]
    return {
        "model": model.state_dict(),
        "average": dict(state.average.values),
        "optimizers": {str(number): {"state": found["state"]} for number, found in enumerate(optimizers)},
    }


def _check_folder(state: TrainingState, folder: Path) -> None:
    """Refuse the shards of a model with other parameters."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    with _damage_named(folder):
        stored = FileSystemReader(str(folder)).read_metadata().state_dict_metadata
    if missing := [name for name in state.trainee.model.state_dict() if f"model.{name}" not in stored]:
        raise ValueError(f"{folder} is of another model: it has no {missing[0]}")


def _read_folder(state: TrainingState, folder: Path) -> None:
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    model = state.trainee.model
    content = _sharded(state)
    reader = FileSystemReader(str(folder))
    # A part that has not had its turn has no state yet; here it has one, which must say so.
    for optimizer in content["optimizers"].values():
        for entry in optimizer["state"].values():
            if "step" in entry:
                entry["step"].zero_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process, as intended
        load(content, storage_reader=reader, planner=DefaultLoadPlanner(allow_partial_load=True))
    model.load_state_dict(content["model"])
    for name, value in content["average"].items():
        state.average.values[name] = value
    for number, optimizer in enumerate(state.optimizers):
        groups = get_optimizer_state_dict(model, optimizer)["param_groups"]
        loaded = {"state": content["optimizers"][str(number)]["state"], "param_groups": groups}
        set_optimizer_state_dict(model, optimizer, loaded)


def _restore(state: TrainingState, content: dict[str, Any]) -> None:
    """From whole tensors, each rank takes its part."""
    parameters = dict(state.trainee.model.named_parameters())
    own = {
        name: split_like(value, parameters[name]) if name in parameters else value
        for name, value in content["model"].items()
    }
    state.trainee.model.load_state_dict(own)
    state.average.values = {name: split_like(content["average"][name], parameters[name]) for name in parameters}
    for optimizer, values in zip(state.optimizers, content["optimizers"], strict=True):
        members = [p for group in optimizer.param_groups for p in group["params"]]
        for number, entry in values["state"].items():
            values["state"][number] = {name: _part(value, members[number]) for name, value in entry.items()}
        optimizer.load_state_dict(values)


def _part(value: Any, parameter: Tensor) -> Any:
    """A parameter's state, split as the parameter is; counters are not."""
    alike = isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0
    return split_like(value, parameter) if alike else value
