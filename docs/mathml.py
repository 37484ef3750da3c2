"""Formulas of the site: a ```math block (LaTeX, which GitHub renders too) as MathML, which browsers draw by themselves.

No script and no font is loaded for them. zensical.toml names `block`.
"""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown


def block(source: str, language: str, css_class: str, options: dict[str, Any], md: Markdown, **more: Any) -> str:
    """The MathML of a fenced block, one displayed formula a paragraph; the signature is that of SuperFences."""
    formulas = (" ".join(formula.split()) for formula in source.split("\n\n"))
    return "".join(f'<p class="{css_class}">{mathml(formula)}</p>' for formula in formulas if formula)


def mathml(formula: str) -> str:
    """One displayed formula.

    Raises:
        ValueError: If it has a command that the converter does not know, which it would show as it stands.
    """
    converted: str = convert(formula, display="block")
    if unknown := re.findall(r"\\[a-zA-Z]+", converted):
        raise ValueError(f"{formula!r} has {', '.join(unknown)}, which cannot be drawn; write it otherwise")
    return converted
