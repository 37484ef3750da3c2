"""The six metrics of VBench-Long by VBench's own definitions: the metrics of the released protocol.

Example:
    >>> from vde_metrics import measure, vbench
    >>> metrics = [vbench.SubjectConsistency(), vbench.BackgroundConsistency()]
    >>> measure("video.mp4", metrics=metrics, protocol="released").vde  # doctest: +SKIP
    >>> vbench.plain_scores("video.mp4", metrics=metrics)  # doctest: +SKIP

The score of a chunk is the one that VBench would give to the chunk as a video of its own. `plain_scores` gives the
score of the whole video. Weights are folders, files or names on the Hugging Face hub. They are read when first needed.
"""

from vde_metrics.vbench.aesthetic_quality import AestheticQuality
from vde_metrics.vbench.consistency import BackgroundConsistency, SubjectConsistency
from vde_metrics.vbench.dynamic_degree import RAFT_FILE, DynamicDegree, TorchvisionRAFT
from vde_metrics.vbench.encoders import CLIP, CLIP_B32, CLIP_L14, DINO, DINO_B16
from vde_metrics.vbench.imaging_quality import MUSIQ_FILE, ImagingQuality, PyiqaMUSIQ, QualityScorer
from vde_metrics.vbench.motion_smoothness import Interpolator, MotionSmoothness
from vde_metrics.vbench.plain import plain_scores

__all__ = [
    "CLIP",
    "CLIP_B32",
    "CLIP_L14",
    "DINO",
    "DINO_B16",
    "MUSIQ_FILE",
    "RAFT_FILE",
    "AestheticQuality",
    "BackgroundConsistency",
    "DynamicDegree",
    "ImagingQuality",
    "Interpolator",
    "MotionSmoothness",
    "PyiqaMUSIQ",
    "QualityScorer",
    "SubjectConsistency",
    "TorchvisionRAFT",
    "plain_scores",
]
