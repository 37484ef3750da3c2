"""How figures are written in the tables of an ablation's pages."""

from collections.abc import Mapping, Sequence


def interval_text(figure: Mapping[str, float] | None) -> str:
    """A mean with its interval; a dash where nothing was measured."""
    return "–" if figure is None else f"{figure['mean']:.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
