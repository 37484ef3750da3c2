"""Reading the JSON of runs, and checking the version of a summary."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = 3
"""Version of a summary."""


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The JSON of every run in a folder of an ablation.

    Raises:
        ValueError: If a file is not what the bench wrote.
    """
    return [read_run(file) for file in sorted((folder / "results").glob("*.json"))]


def read_run(file: Path) -> dict[str, Any]:
    """The JSON of one run.

    Raises:
        ValueError: If the file is not what the bench wrote.
    """
    try:
        run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        run["cell"]["label"], run["seed"], run["config"], run["commit"], run["machine"]
        [(line["story"], line["new_place"]) for line in run["films"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not a run of this version of studies.ablation ({error!r}); remove it") from None
    return run


def holds_stories(file: Path, stories: Sequence[int]) -> bool:
    """Whether the JSON of a run is there and has a line for each of these stories."""
    return file.exists() and {line["story"] for line in read_run(file)["films"]}.issuperset(stories)


def origins(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where runs were made: ``machines``, each once, and ``commits``, also those of trainings."""
    machines = {json.dumps(run["machine"], sort_keys=True): run["machine"] for run in runs}
    commits = {facts["commit"] for run in runs for facts in (run, run["training"]) if facts}
    return {"machines": [machines[key] for key in sorted(machines)], "commits": sorted(commits - {None})}


def check_format(summary: Mapping[str, Any], file: Path) -> None:
    """Check that a summary is of this version.

    Raises:
        ValueError: If it is of an older one.
    """
    if {"cells", "claim"} <= set(summary) and summary.get("format") != FORMAT:
        raise ValueError(
            f"{file}: a summary of an older version; run `python -m studies.ablation` on its folder "
            f"({file.parent}) again"
        )
