"""LoRAs as commands take them: ``PATH`` or ``PATH@STRENGTH``."""

import re
from collections.abc import Sequence
from pathlib import Path


def parse_loras(texts: Sequence[str]) -> dict[str | Path, float]:
    """LoRAs and their strengths, each `path` or `path@strength`.

    Raises:
        ValueError: If one is neither, or is given twice.
    """
    given: dict[str | Path, float] = {}
    for text in texts:
        path, strength = _parse(text)
        if path in given:
            raise ValueError(f"--lora names {path} twice; give it once, with the strength that is meant")
        given[path] = strength
    return given


def _parse(text: str) -> tuple[str, float]:
    path, at, strength = text.rpartition("@")
    if not at or Path(text).exists():  # a name may hold an @ itself
        path, strength = text, "1"
    if not path.strip():
        raise ValueError(f"--lora is {text!r}; expected PATH or PATH@STRENGTH")
    if not re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", strength, re.ASCII):
        raise ValueError(f"{text!r}: {strength!r} is no number; expected PATH or PATH@STRENGTH")
    return path, float(strength)
