"""Video Drift Error: how much a long video drifts, chunk by chunk.

Example:
    >>> from vde_metrics import measure, vde
    >>> vde([4.0, 4.0, 3.0])  # the last of three chunks lost a quarter of its score
    0.25
    >>> report = measure("video.mp4")  # doctest: +SKIP
    >>> report.vde["clarity"], report.is_frozen  # doctest: +SKIP

A name is imported when it is first used. So ``vde --help`` and ``import vde_metrics`` load neither torch nor a video
library, and only ``vde_metrics.command_line`` loads click.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vde_metrics import command_line, vbench
    from vde_metrics.chunks import chunk_boundaries
    from vde_metrics.drift import vde
    from vde_metrics.features.batches import FrameBatch
    from vde_metrics.features.scoring import ChunkScorer, FrameMetric
    from vde_metrics.measurement import measure
    from vde_metrics.metrics.aesthetic import Aesthetic
    from vde_metrics.metrics.background import Background
    from vde_metrics.metrics.camera import camera_flow, moving_subject
    from vde_metrics.metrics.clarity import Clarity
    from vde_metrics.metrics.motion import Motion
    from vde_metrics.metrics.subject import Subject
    from vde_metrics.models.efficientnet import EfficientNetLite0
    from vde_metrics.models.flow import DISFlow
    from vde_metrics.models.laion import LaionAesthetic
    from vde_metrics.models.pretrained import PretrainedEncoder
    from vde_metrics.models.regions import GivenBoxes, GivenMasks
    from vde_metrics.named_metrics import check_metric_models, check_metric_names, make_metric
    from vde_metrics.protocols import Detector, Encoder, Metric, OpticalFlow, Predictor, Segmenter
    from vde_metrics.reports.comparison import Comparison, compare
    from vde_metrics.reports.page import comparison_page, html_page
    from vde_metrics.reports.report import DriftReport, MetricDrift, require_comparable
    from vde_metrics.reports.saved import load_reports
    from vde_metrics.video.file import VideoFile
    from vde_metrics.video.player import ShownFrame

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
    # metrics by name
    "make_metric",
    "check_metric_names",
    "check_metric_models",
    # models behind metrics
    "DISFlow",
    "EfficientNetLite0",
    "PretrainedEncoder",
    "LaionAesthetic",
    "GivenMasks",
    "GivenBoxes",
    "camera_flow",
    "moving_subject",
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
    # subpackages: the metrics of the released protocol; the `vde` command
    "vbench",
    "command_line",
]

_SUBPACKAGES = ("vbench", "command_line")
_MODULES = {
    "vde": "drift",
    "measure": "measurement",
    "chunk_boundaries": "chunks",
    "Clarity": "metrics.clarity",
    "Motion": "metrics.motion",
    "Aesthetic": "metrics.aesthetic",
    "Background": "metrics.background",
    "Subject": "metrics.subject",
    "make_metric": "named_metrics",
    "check_metric_names": "named_metrics",
    "check_metric_models": "named_metrics",
    "DISFlow": "models.flow",
    "camera_flow": "metrics.camera",
    "moving_subject": "metrics.camera",
    "EfficientNetLite0": "models.efficientnet",
    "PretrainedEncoder": "models.pretrained",
    "LaionAesthetic": "models.laion",
    "GivenMasks": "models.regions",
    "GivenBoxes": "models.regions",
    "Metric": "protocols",
    "FrameMetric": "features.scoring",
    "ChunkScorer": "features.scoring",
    "FrameBatch": "features.batches",
    "OpticalFlow": "protocols",
    "Encoder": "protocols",
    "Predictor": "protocols",
    "Segmenter": "protocols",
    "Detector": "protocols",
    "VideoFile": "video.file",
    "ShownFrame": "video.player",
    "DriftReport": "reports.report",
    "MetricDrift": "reports.report",
    "require_comparable": "reports.report",
    "load_reports": "reports.saved",
    "html_page": "reports.page",
    "compare": "reports.comparison",
    "Comparison": "reports.comparison",
    "comparison_page": "reports.page",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
