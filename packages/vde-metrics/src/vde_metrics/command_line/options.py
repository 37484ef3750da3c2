"""Settings of a measurement, from options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vde_metrics.named_metrics import DEFAULTS, USERS, WITHOUT_MODELS, check_metric_models, check_metric_names

if TYPE_CHECKING:
    from vde_metrics.command_line.selection import Selected
    from vde_metrics.drift import Protocol, Weights

MEASURING = ("num_chunks", "chunk_seconds", "weights", "protocol", "names", "models", "device", "cache")
"""Options that say how videos are measured."""
ON_THE_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE

OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How every video is measured."""

    names: tuple[str, ...]
    """Names of the metrics."""
    models: Mapping[str, str]
    """Weights by role."""
    num_chunks: int | None
    chunk_seconds: float | None
    weights: "Weights"
    protocol: "Protocol"
    device: str
    """Where models run."""
    cache: Path | None
    """Folder of features."""
    thumbnails: bool
    """Whether reports need pictures."""

    @classmethod
    def checked(cls, options: dict[str, Any], *, thumbnails: bool) -> "Settings":
        """Settings from the options of the command that say how to measure."""
        options = dict(options)
        names = tuple(dict.fromkeys(options.pop("names"))) or DEFAULTS[options["protocol"]]
        if options["num_chunks"] is not None and options["chunk_seconds"] is not None:
            raise click.ClickException("--num-chunks and --chunk-seconds were given; leave one of them out")
        check_metric_names(names, options["protocol"])
        check_metric_models(options["models"], names)
        return cls(names=names, thumbnails=thumbnails, **options)


def model_weights(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Weights by role from the values ROLE=WEIGHTS of an option. It is a callback for ``click.option``."""
    found = {}
    for pair in given:
        role, equals, weights = pair.partition("=")
        if not equals or role not in USERS or not weights:
            raise click.BadParameter(f"{pair!r}; expected ROLE=WEIGHTS, where ROLE is one of {', '.join(USERS)}")
        found[role] = weights
    return found


def check_folders(outputs: Mapping[str, Path | None]) -> None:
    """Raise ClickException if an output has no name, or its folder does not exist."""
    for name, path in outputs.items():
        if path is not None and not path.name:
            raise click.ClickException(f"--{name}: expected the name of a file")
        if path is not None and not path.resolve().parent.is_dir():
            raise click.ClickException(f"--{name}: the folder {path.parent} does not exist")


def check_outputs(outputs: Mapping[str, Path | None], chosen: "Sequence[Selected]") -> None:
    """Raise ClickException if an output would replace a video, or two outputs are one file."""
    taken = {selected.path.resolve(): "one of the videos" for selected in chosen}
    for name, path in outputs.items():
        if path is None or not (path.is_file() or not path.exists()):
            continue  # a pipe, for example, may be written to twice
        if path.resolve() in taken:
            raise click.ClickException(f"--{name} names {path}, {taken[path.resolve()]}; give another file")
        taken[path.resolve()] = f"the file of --{name}, too"


def check_effects(chosen: "Sequence[Selected]", settings: Settings) -> None:
    """Raise ClickException if an option was given that would have no effect."""
    context = click.get_current_context()
    given = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ON_THE_COMMAND_LINE and parameter.name in MEASURING
    }
    if given and all(selected.is_saved for selected in chosen):
        raise click.ClickException(
            f"{next(iter(given.values()))} says how to measure, but saved reports are read as they are; leave it out"
        )
    if settings.device != "cpu" and set(settings.names) <= set(WITHOUT_MODELS):
        raise click.ClickException(
            f"--device says where models run, but {', '.join(settings.names)} use no model; leave it out"
        )
