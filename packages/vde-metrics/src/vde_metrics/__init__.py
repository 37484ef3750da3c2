"""Video Drift Error: how much a long video drifts, chunk by chunk.

Example:
    >>> from vde_metrics import measure, vde
    >>> vde([4.0, 4.0, 3.0])  # one chunk of three lost a quarter of its score
    0.25
    >>> report = measure("film.mp4")  # doctest: +SKIP
    >>> report.vde["clarity"], report.is_frozen  # doctest: +SKIP

The names below are imported when they are first used, so that ``vde --help`` and ``import vde_metrics`` load neither
torch nor a video library.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vde_metrics import vbench
    from vde_metrics.aesthetic import Aesthetic, LaionAesthetic
    from vde_metrics.background import Background
    from vde_metrics.chunks import chunk_boundaries
    from vde_metrics.clarity import Clarity
    from vde_metrics.comparison import Comparison, compare
    from vde_metrics.drift import vde
    from vde_metrics.efficientnet import EfficientNetLite0
    from vde_metrics.flow import DISFlow
    from vde_metrics.frames import FrameBatch
    from vde_metrics.measurement import measure
    from vde_metrics.motion import Motion
    from vde_metrics.named_metrics import make_metric
    from vde_metrics.page import comparison_page, html_page
    from vde_metrics.player import ShownFrame
    from vde_metrics.pretrained import PretrainedEncoder
    from vde_metrics.protocols import Detector, Encoder, Metric, OpticalFlow, Predictor, Segmenter
    from vde_metrics.regions import GivenBoxes, GivenMasks
    from vde_metrics.report import DriftReport, MetricDrift, require_comparable
    from vde_metrics.saved import load_reports
    from vde_metrics.scoring import ChunkScorer, FrameMetric
    from vde_metrics.subject import Subject
    from vde_metrics.video import VideoFile

__version__ = version("vde-metrics")

__all__ = [  # noqa: RUF022 (grouped by use)
    # the error and the whole measurement
    "vde",
    "measure",
    "chunk_boundaries",
    # metrics
    "Clarity",
    "Motion",
    "Aesthetic",
    "Background",
    "Subject",
    "make_metric",
    # what metrics look through
    "DISFlow",
    "EfficientNetLite0",
    "PretrainedEncoder",
    "LaionAesthetic",
    "GivenMasks",
    "GivenBoxes",
    # protocols for your own
    "Metric",
    "FrameMetric",
    "ChunkScorer",
    "FrameBatch",
    "OpticalFlow",
    "Encoder",
    "Predictor",
    "Segmenter",
    "Detector",
    # reading videos
    "VideoFile",
    "ShownFrame",
    # results
    "DriftReport",
    "MetricDrift",
    "require_comparable",
    "load_reports",
    "html_page",
    "compare",
    "Comparison",
    "comparison_page",
    # the released protocol's metrics
    "vbench",
]

_MODULES = {
    "vde": "drift",
    "measure": "measurement",
    "chunk_boundaries": "chunks",
    "Clarity": "clarity",
    "Motion": "motion",
    "Aesthetic": "aesthetic",
    "Background": "background",
    "Subject": "subject",
    "make_metric": "named_metrics",
    "DISFlow": "flow",
    "EfficientNetLite0": "efficientnet",
    "PretrainedEncoder": "pretrained",
    "LaionAesthetic": "aesthetic",
    "GivenMasks": "regions",
    "GivenBoxes": "regions",
    "Metric": "protocols",
    "FrameMetric": "scoring",
    "ChunkScorer": "scoring",
    "FrameBatch": "frames",
    "OpticalFlow": "protocols",
    "Encoder": "protocols",
    "Predictor": "protocols",
    "Segmenter": "protocols",
    "Detector": "protocols",
    "VideoFile": "video",
    "ShownFrame": "player",
    "DriftReport": "report",
    "MetricDrift": "report",
    "require_comparable": "report",
    "load_reports": "saved",
    "html_page": "page",
    "compare": "comparison",
    "Comparison": "comparison",
    "comparison_page": "page",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "vbench":
        return import_module("vde_metrics.vbench")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
