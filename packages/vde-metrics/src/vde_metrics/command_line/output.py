"""Printing and writing reports."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vde_metrics.reports.comparison import Comparison
    from vde_metrics.reports.report import DriftReport


def write_all(
    reports: "Sequence[DriftReport]",
    groups: "Mapping[str, Sequence[DriftReport]]",
    comparison: "Comparison | None",
    *,
    as_json: bool,
    single: bool,
    markdown: Path | None,
    html: Path | None,
) -> None:
    """Print JSON or the comparison, and write the files.

    Args:
        reports: all reports.
        groups: the same by the label of the model.
        comparison: of the groups, if models are compared.
        as_json: print JSON. Otherwise the reports have been printed already.
        single: print an object instead of an array if there is one report.
        markdown: file for the text.
        html: file for the page.
    """
    if as_json:
        click.echo(_json(reports, comparison, single=single and len(reports) == 1))
    elif comparison is not None:
        click.echo(comparison.to_markdown())
    if markdown is not None:
        parts = [*([] if comparison is None else [comparison.to_markdown()]), *(one.to_markdown() for one in reports)]
        write_whole(markdown, "\n".join(parts))
    if html is not None:
        from vde_metrics.reports.page import comparison_page, html_page

        write_whole(html, html_page(reports) if comparison is None else comparison_page(groups, comparison))


def write_whole(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it. A pipe, which is not a file, is written to directly."""
    is_special = path.exists() and not path.is_file()
    target = path if is_special else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        target.write_text(text, encoding="utf-8")
        if target != path:
            os.replace(target, path)
    except OSError as error:
        if target != path:
            target.unlink(missing_ok=True)
        raise click.ClickException(f"{path}: cannot be written ({error.strerror})") from error


def _json(reports: "Sequence[DriftReport]", comparison: "Comparison | None", *, single: bool) -> str:
    if comparison is not None:
        found = {"reports": [report.to_dict() for report in reports], "comparison": comparison.to_dict()}
        return json.dumps(found, indent=2, allow_nan=False)
    return reports[0].to_json() if single else "[" + ",\n".join(report.to_json() for report in reports) + "]"
