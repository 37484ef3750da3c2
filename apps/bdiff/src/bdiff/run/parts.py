"""Files that take the place of parts of a model's folder."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bdiff.files import sha256
from bdiff.run.lora_option import parse_loras
from bdiff_core.checkpoint import open_checkpoint

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What is taken from elsewhere than the model's folder; None: nothing."""

    transformer: str | None = None
    """A file, a folder, or what the hub has under `owner/name` or `owner/name/file`."""
    entry: str | None = None
    """The entry of a `.pt` that holds it."""
    loras: tuple[str, ...] = ()
    """LoRAs to add to the transformer, each `PATH` or `PATH@STRENGTH`."""
    vae: str | None = None
    """The autoencoder: a folder of diffusers, or Wan's own `.pth`."""
    text_encoder: str | None = None
    """A folder with `text_encoder/` and `tokenizer/`, or one of Wan's own."""

    @classmethod
    def located(
        cls,
        *,
        transformer: str | None = None,
        entry: str | None = None,
        loras: Sequence[str] = (),
        vae: str | None = None,
        text_encoder: str | None = None,
    ) -> "Parts":
        """The parts as a command names them, with absolute paths for what is on disk.

        Raises:
            ValueError: If a LoRA is no path with a strength, or is given twice, or what surrounds the transformer is
                neither there nor named like a repository of the hub.
        """
        for option, path in (("--vae", vae), ("--text-encoder", text_encoder)):
            if path is not None and not Path(path).exists() and not _REPOSITORY.fullmatch(path):
                raise ValueError(
                    f"{option} is {path!r}, which is not there; expected a folder or a file, or a repository of "
                    "the hub (owner/name)"
                )
        loras_found = tuple(f"{_absolute(str(path))}@{strength:g}" for path, strength in parse_loras(loras).items())
        return cls(
            transformer=_absolute(transformer), entry=entry, loras=loras_found, vae=_absolute(vae),
            text_encoder=_absolute(text_encoder),
        )  # fmt: skip

    def lora_strengths(self) -> dict[str | Path, float]:
        """The LoRAs and their strengths."""
        return parse_loras(self.loras)

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that is given, by its absolute path."""
        paths = [self.transformer, self.vae, self.text_encoder, *map(str, self.lora_strengths())]
        files: list[Path] = []
        for path in (Path(path) for path in paths if path is not None):
            files += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        if self.transformer is not None and not Path(self.transformer).exists():
            files += open_checkpoint(self.transformer, entry=self.entry).files
        return {str(file): sha256(file) for file in dict.fromkeys(files) if file.is_file()}

    def change(self, known: Mapping[str, str]) -> str | None:
        """Which of these files is not the known one any more, in words; None if all are."""
        found = self.digests()
        gone = [name for name in known if Path(name).is_absolute() and name not in found]
        changed = [name for name, digest in found.items() if known.get(name) != digest]
        if gone:
            return f"{gone[0]} is no longer there"
        return f"{changed[0]} has changed" if changed else None


def _absolute(path: str | None) -> str | None:
    return str(Path(path).resolve()) if path is not None and Path(path).exists() else path
