"""`python -m studies.ablation.write_page`: the page of a finished ablation, from its summary.json alone."""

from pathlib import Path
from typing import Any

import click

from bdiff.cli import PATH
from studies.command import run_study


@click.command()
@click.argument("out", type=PATH)
@click.option("--title", required=True)
@click.option("--summary", "file", type=PATH, required=True, help="summary.json of `python -m studies.ablation`.")
@click.option("--note", default="", help="A paragraph under the heading.")
def command(out: Path, title: str, file: Path, note: str) -> None:
    """Write a Markdown page of the figures, with plots beside it."""
    from bdiff_bench.harness import parts_of_files, write_page
    from studies.ablation.page import ablation_parts
    from studies.ablation.plots import draw, draw_questions
    from studies.ablation.reader_questions_page import questions_parts
    from studies.ablation.run_files import check_format

    def parts(summary: dict[str, Any]) -> list[str]:
        check_format(summary, file)
        tables, questions = (plots(out.parent, summary, out.stem) for plots in (draw, draw_questions))
        return [*ablation_parts(summary, pictures=tables), *questions_parts(summary, pictures=questions)]

    write_page(out, parts_of_files([(file, parts)]), title=title, note=note)


if __name__ == "__main__":
    run_study(command, "studies.ablation.write_page")
