"""Fails unless every file of each package's source tree came with its installed wheel."""

import sys
from importlib.metadata import files
from pathlib import Path


def missing(folder: Path) -> list[str]:
    """Files of src/ that the installed distribution lacks or changed."""
    installed = {str(entry): entry.locate() for entry in files(folder.name) or []}
    sources = [p for p in (folder / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return [
        f"{folder.name}: {source} did not travel with the wheel"
        for source in sources
        if (copy := installed.get(str(source.relative_to(folder / "src")))) is None
        or Path(copy).read_bytes() != source.read_bytes()
    ]


if __name__ == "__main__":
    sys.exit("\n".join(line for folder in sys.argv[1:] for line in missing(Path(folder))) or 0)
