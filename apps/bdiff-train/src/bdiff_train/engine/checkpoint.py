"""Checkpoints: one process writes a file, several write a folder of shards, and any number of processes reads either.

A single file (``checkpoint.pt``, replaced by one rename) is simplest, and one process needs no more. When there are
many ranks, none may be able to hold the whole state. So each writes its part by torch.distributed.checkpoint, into a
folder named after the step, which appears complete or not at all.
"""

import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from bdiff_core.files import whole_file
from bdiff_train.engine.damage import damage_named
from bdiff_train.engine.distributed import Ranks, split_like
from bdiff_train.engine.shards import TrainingState, read_shards, stored_names, write_shards

_FACTS = "run.json"
_PARTS = ("model", "average", "optimizers", "random", "step", "seconds", "evaluation")
"""What a file must hold."""

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of a run.

    Args:
        out: folder of the run.
        ranks: the processes that write them.
        old_names: beginnings of parameter names in checkpoints of older versions, and what they are now.
    """

    def __init__(self, out: Path, ranks: Ranks, *, old_names: Mapping[str, str] | None = None) -> None:
        self.file = out / "checkpoint.pt"
        self._out, self._ranks, self._old_names = out, ranks, old_names or {}

    def save(self, state: TrainingState, facts: dict[str, Any]) -> None:
        """Write the state after ``facts["step"]`` steps, then remove earlier checkpoints."""
        if self._ranks.count == 1:
            self._save_file(state, facts)
        else:
            self._save_folder(state, facts)
        self._ranks.wait()

    def load(self, state: TrainingState) -> dict[str, Any] | None:
        """Restore the newest checkpoint, file or folder; return its facts, or None if there is no checkpoint."""
        folder = max(self._out.glob("checkpoint-*[0-9]"), default=None)
        content = self._content() if self.file.exists() else None
        if folder is not None:
            facts = self._facts(folder)
            if content is None or content["step"] < facts["step"]:
                names = stored_names(state, folder, self._old_names)
                with damage_named(folder):
                    read_shards(state, folder, names)
                return facts
        if content is None:
            return None
        _check_same_model(state, content["model"], self.file)
        with damage_named(self.file):
            _restore(state, content)
            torch.set_rng_state(content["random"])
        return {name: content[name] for name in ("step", "seconds", "evaluation", "guard") if name in content}

    def _content(self) -> dict[str, Any]:
        with damage_named(self.file), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles that are not its own; they are refused anyway
            content: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
            if missing := [name for name in _PARTS if name not in content]:
                raise KeyError(missing[0])
            for part in ("model", "average"):
                if not all(isinstance(tensor, Tensor) for tensor in content[part].values()):
                    raise TypeError("a parameter is not a tensor")
                content[part] = self._renamed(content[part])
            return self._with_parts_renamed(content)

    def _facts(self, folder: Path) -> dict[str, Any]:
        with damage_named(folder):
            facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            if not {"step", "seconds"} <= facts.keys():
                raise KeyError("step")
            return self._with_parts_renamed(facts)

    def _with_parts_renamed(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The facts, in which the guard's parts have today's names."""
        if "guard" not in facts:
            return facts
        return {**facts, "guard": {**facts["guard"], "past": self._renamed(facts["guard"]["past"])}}

    def _renamed(self, values: Mapping[str, T]) -> dict[str, T]:
        """The values by today's names."""
        return {self._new_name(name): value for name, value in values.items()}

    def _new_name(self, name: str) -> str:
        old = next((old for old in self._old_names if name.startswith(old)), None)
        return name if old is None else self._old_names[old] + name.removeprefix(old)

    def _save_file(self, state: TrainingState, facts: dict[str, Any]) -> None:
        content = {
            "model": state.distributed.model.state_dict(),
            "average": state.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
            "random": torch.get_rng_state(),
            **facts,
        }
        with whole_file(self.file) as partial:
            torch.save(content, partial)
        _remove(self._out.glob("checkpoint-*[0-9]"))

    def _save_folder(self, state: TrainingState, facts: dict[str, Any]) -> None:
        folder = self._out / f"checkpoint-{facts['step']:09d}"
        partial = folder.with_name(f".{folder.name}.tmp")
        if self._ranks.is_first:
            shutil.rmtree(partial, ignore_errors=True)
        self._ranks.wait()
        write_shards(state, partial)
        if self._ranks.is_first:
            (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            older = [path for path in self._out.glob("checkpoint-*[0-9]") if path != folder]
            _remove([folder])  # a run that was stopped at this very step writes it again
            partial.replace(folder)
            _remove([*older, *self._out.glob(".checkpoint-*.tmp")])
            self.file.unlink(missing_ok=True)


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder, ignore_errors=True)


def _check_same_model(state: TrainingState, stored: Mapping[str, Tensor], file: Path) -> None:
    """Refuse a checkpoint of a model with other parameters."""
    shapes = {name: tuple(value.shape) for name, value in state.distributed.model.state_dict().items()}
    for name in sorted(shapes.keys() | stored.keys()):
        found, expected = tuple(stored[name].shape) if name in stored else None, shapes.get(name)
        if found != expected:
            raise ValueError(
                f"{file} is of another model: it has {name} {found or 'nowhere'}, this one {expected or 'nowhere'}; go "
                "on with the settings that it was begun with, or give another --out"
            )


def _restore(state: TrainingState, content: dict[str, Any]) -> None:
    """Restore the state from whole tensors; each rank takes its part."""
    model = state.distributed.model
    parameters = dict(model.named_parameters())
    own = {
        name: split_like(value, parameters[name]) if name in parameters else value
        for name, value in content["model"].items()
    }
    model.load_state_dict(own)
    state.average.values = {name: split_like(content["average"][name], parameters[name]) for name in parameters}
    for optimizer, values in zip(state.optimizers, content["optimizers"], strict=True):
        members = [p for group in optimizer.param_groups for p in group["params"]]
        for number, entry in values["state"].items():
            values["state"][number] = {name: _part(value, members[number]) for name, value in entry.items()}
        optimizer.load_state_dict(values)


def _part(value: Any, parameter: Tensor) -> Any:
    """Split an entry of a parameter's state as the parameter is split; counters stay whole."""
    alike = isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0
    return split_like(value, parameter) if alike else value
