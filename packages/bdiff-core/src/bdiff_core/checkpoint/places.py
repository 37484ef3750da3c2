"""Finding the files of a checkpoint, on this machine or on the hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdiff_core.errors import first_line
from bdiff_core.files.kinds import weight_kind
from bdiff_core.files.reading import read_json, visible

CONFIG = "config.json"
OUR_STEM, DIFFUSERS_STEM = "model", "diffusion_pytorch_model"
PICKLES = (".pt", ".pth", ".ckpt")
"""Endings of files that `torch.save` writes; when reading, the content counts and not the ending."""

_ENDINGS = (".safetensors", ".sft", *PICKLES)
_LESS_LIKELY = (".bin",)  # weights, unless there are other files: trainers store their arguments in such files too
_NO_WEIGHTS = (".gguf", ".onnx", ".msgpack", ".h5", ".npz", ".zip", ".tar", ".gz", ".part", ".incomplete", ".aria2",
               ".crdownload", ".download", ".partial")  # fmt: skip

# Files that lie beside a transformer and hold none: autoencoders, text and image encoders, the state of a training run.
_COMPANIONS = re.compile(
    r"(?:vae|wan[\w.-]*vae|taew|models_t5|umt5|models_clip|clip_vision|"
    r"optimizer|scheduler|rng_state|random_states|training_)",
    re.IGNORECASE,
)

# What is downloaded of a repository: the transformer, at the top or in its folder, and the pipeline's description.
_FROM_HUB = (
    CONFIG, "model_index.json", f"{OUR_STEM}*.safetensors*", f"{DIFFUSERS_STEM}*.safetensors*", "transformer/*.json",
    "transformer/*.safetensors",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The files of one checkpoint."""

    path: Path
    """The folder, or the one file."""
    config: dict[str, Any] | None
    """Content of `config.json`; None: there is none."""
    index: dict[str, Any]
    """Content of the `model_index.json` of the diffusers pipeline around it; empty: there is none."""

    @property
    def config_file(self) -> Path:
        """Path of `config.json`, whether it exists or not."""
        return (self.path if self.path.is_dir() else self.path.parent) / CONFIG


def find_place(path_or_repo: str | Path) -> Place:
    """Find a checkpoint; in the folder of a pipeline, its transformer.

    Args:
        path_or_repo: A folder, a file, or a repository of the hub (`owner/name`, or `owner/name/file`).

    Raises:
        ValueError: If there is nothing of that name, or a JSON file is damaged.
        ImportError: If it has to come from the hub and huggingface_hub is missing.
    """
    path = local_path(path_or_repo)
    if path.is_file():
        beside = path.parent / CONFIG
        return Place(path=path, config=read_json(beside) if beside.is_file() else None, index={})
    pipeline = path / "model_index.json"
    if not (path / CONFIG).is_file() and (path / "transformer" / CONFIG).is_file():
        path = path / "transformer"
    elif path.name in ("transformer", "transformer_2"):
        pipeline = path.parent / "model_index.json"
    index = read_json(pipeline) if pipeline.is_file() else {}
    config = read_json(path / CONFIG) if (path / CONFIG).is_file() else None
    return Place(path=path, config=config, index=index)


def local_path(path_or_repo: str | Path) -> Path:
    """The path itself if it exists, otherwise the download of what has that name on the hub.

    Raises:
        ValueError: If it is neither.
        ImportError: If huggingface_hub is missing.
    """
    path = Path(path_or_repo)
    if not str(path_or_repo):
        raise ValueError("the path is empty; expected a folder, a file, or a hub repository (owner/name)")
    if path.is_file() or path.is_dir():
        return path
    if path.is_symlink():
        raise ValueError(f"{path} is a link to {path.readlink()}, which is not there")
    if path.exists():
        raise ValueError(f"{path} is neither a file nor a folder")
    repository = re.fullmatch(r"([\w-][\w.-]*/[\w.-]+)(?:/([\w./-]+))?", str(path_or_repo))
    if repository is None or ".." in path.parts:
        raise ValueError(f"{path} does not exist and is no hub repository (owner/name)")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"{path} does not exist; to read it from the hub: pip install bdiff-core[hub]") from error
    inside = (repository[2] or "").strip("/")
    wanted = [inside, f"{inside}/*"] if inside else list(_FROM_HUB)
    try:
        found = Path(snapshot_download(repository[1], allow_patterns=wanted), inside)
    except (OSError, ValueError) as error:  # no network, no such repository, no right to read it
        raise ValueError(f"{path} does not exist, and the hub gives no {repository[1]}: {first_line(error)}") from None
    if not found.exists():
        raise ValueError(f"the repository {repository[1]} holds no {inside}")
    return found


def weight_files(path: Path, stems: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of a folder that hold the weights.

    With the given names: the files of an index, a single file, or numbered files without an index; safetensors come
    before a `.bin` of that name, which holds the same by convention. With another name: the safetensors file or pickle,
    if there is only one. Autoencoders, encoders and the state of a training run are no weights of a transformer.

    Raises:
        ValueError: If there are none, one is missing, the index is damaged, or there are weights of two kinds.
    """
    files = visible(path)
    others = [file for file in files if file.suffix in _ENDINGS and not _COMPANIONS.match(file.name)]
    for ending in ("safetensors", "bin"):
        for stem in stems:
            if found := _under_name(path, stem, ending):
                _check_alone(path, found, others, [other for other in stems if other != stem])
                return found
    others = others or [file for file in files if file.suffix in _LESS_LIKELY and not _COMPANIONS.match(file.name)]
    if len(others) == 1:
        return (_there(others[0]),)
    if others:
        raise ValueError(f"{path} holds {[file.name for file in others]}; name the file that is meant")
    raise ValueError(_lacking(path, files, stems[0]))


def _check_alone(path: Path, found: Sequence[Path], files: Sequence[Path], stems: Sequence[str]) -> None:
    """Refuse a folder in which other weights would be passed over: a pickle, or safetensors of another known name.

    Args:
        path: The folder.
        found: What is to be read.
        files: What else may hold weights.
        stems: The other known names.
    """
    whole = re.compile(rf"(?:{'|'.join(stems) or '$'})(?:-\d+-of-\d+)?\.safetensors")
    for file in files:
        if file not in found and (file.suffix in PICKLES or whole.fullmatch(file.name)):
            raise ValueError(
                f"{path} holds weights of two kinds, {found[0].name} and {file.name}; name the file that is meant, or "
                "move the other away"
            )


def _under_name(path: Path, stem: str, ending: str) -> tuple[Path, ...]:
    """The files that an index of this name lists, or the one file, or the numbered files; empty if there are none."""
    index, single = path / f"{stem}.{ending}.index.json", path / f"{stem}.{ending}"
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{index} is damaged: it has no weight_map")
        names = sorted({str(file) for file in weight_map.values()})
        if outside := [name for name in names if Path(name).name != name]:
            raise ValueError(f"{index} is damaged: it names {outside[0]!r}, which is not in its folder")
        return _complete(path, names)
    if single.is_file() or single.is_symlink():
        return (_there(single),)
    shards = visible(path, f"{stem}-*-of-*.{ending}")
    if not shards:
        return ()
    total = shards[0].stem.rpartition("-")[2]
    if not total.isdecimal():
        raise ValueError(f"{shards[0]} should end in its number and that of all, like -00001-of-00002")
    numbers = (f"{number:0{len(total)}}" for number in range(1, int(total) + 1))
    return _complete(path, [f"{stem}-{number}-of-{total}.{ending}" for number in numbers])


def _lacking(path: Path, files: Sequence[Path], stem: str) -> str:
    """What is wrong with a folder without weights."""
    for file in files:
        if file.suffix.lower() in _NO_WEIGHTS and file.is_file():
            weight_kind(file)  # raises an error that says what the file is
    if not (path / CONFIG).is_file():
        return f"{path} holds no transformer: {CONFIG} is missing"
    return f"{path} is incomplete: {stem}.safetensors is missing"


def _complete(path: Path, names: list[str]) -> tuple[Path, ...]:
    return tuple(_there(path / name) for name in names)


def _there(file: Path) -> Path:
    if file.is_file():
        return file
    if file.is_symlink():
        raise ValueError(f"{file} is a link to {file.readlink()}, which is not there")
    raise ValueError(f"{file.parent} is incomplete: {file.name} is missing")
