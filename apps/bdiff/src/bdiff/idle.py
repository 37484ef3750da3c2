"""Options that were given and would change nothing: they are refused, wherever they are found out."""

from collections.abc import Mapping
from typing import Any


def refuse_idle(options: Mapping[str, Any], used: Mapping[str, bool], reason: str) -> None:
    """Refuse options that were given and would change nothing.

    Args:
        options: Values by name; None was not given.
        used: Whether an option has an effect.
        reason: Why one has none, after its name.

    Raises:
        ValueError: If there is one.
    """
    for name, is_used in used.items():
        if options.get(name) is not None and not is_used:
            raise ValueError(f"--{name.replace('_', '-')} {reason}; leave it out")
