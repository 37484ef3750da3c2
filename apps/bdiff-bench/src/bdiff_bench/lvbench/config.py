"""Which videos are measured, and how."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vde_metrics import check_metric_models, check_metric_names

SplitName = Literal["evaluation", "train", "all"]

DEFAULT_METRICS = {
    "paper": ("clarity", "motion", "background", "subject"),
    "released": ("subject-consistency", "background-consistency"),
}
"""Metrics by protocol if none is asked for; those of the paper's protocol need no weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LVBenchConfig:
    """What to measure."""

    manifest: Path
    """The benchmark's videos, as `lvbench.Manifest` reads them."""
    videos: Path
    """A folder per model, or the videos of one model."""
    out: Path
    """Folder of the lines, the summary and the page."""
    protocol: Literal["paper", "released"] = "paper"
    """Which definition of drift; a folder holds one."""
    metrics: tuple[str, ...] = ()
    """Metrics of VDE, by the names that `vde` knows; none: those of `DEFAULT_METRICS`."""
    plain: tuple[str, ...] = ()
    """VBench's metrics of whole videos, by the names that `vde` knows."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Weights by role."""
    num_chunks: int = 10
    """Chunks of equal length. Errors grow with their number, so tables compare only at the same one."""
    split: SplitName = "evaluation"
    """Which part of the manifest."""
    seed: int = 0
    """Seed of the split."""
    device: str = "cpu"
    """Where models run."""

    def __post_init__(self) -> None:
        if not self.metrics:
            object.__setattr__(self, "metrics", DEFAULT_METRICS[self.protocol])
        check_metric_names(self.metrics, self.protocol)
        check_metric_names(self.plain, "released")
        check_metric_models(self.models, (*self.metrics, *self.plain))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for lines to belong together."""
        found = {key: getattr(self, key) for key in ("protocol", "metrics", "plain", "num_chunks")}
        plain: dict[str, Any] = json.loads(
            json.dumps(found | {"models": dict(self.models), "videos": str(self.videos.resolve())})
        )
        return plain
