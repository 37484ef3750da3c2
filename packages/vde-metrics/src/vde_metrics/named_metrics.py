"""The metrics by the names that the command uses."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vde_metrics.protocols import Encoder, Metric

PAPER = ("clarity", "motion", "motion-smoothness", "background", "subject", "aesthetic")
"""Names of the paper's protocol."""
RELEASED = ("subject-consistency", "background-consistency", "aesthetic-quality", "imaging-quality", "dynamic-degree")
"""Names of the released protocol."""
WITHOUT_MODELS = ("clarity", "motion", "motion-smoothness", "background")
"""Metrics without a model."""
DEFAULTS = {"paper": ("clarity", "motion"), "released": ("subject-consistency", "background-consistency")}
"""What is measured unless names are given, by protocol."""
USERS = {
    "encoder": ("subject", "aesthetic"),
    "laion": ("aesthetic", "aesthetic-quality"),
    "dino": ("subject-consistency",),
    "clip-b32": ("background-consistency",),
    "clip-l14": ("aesthetic-quality", "aesthetic"),
    "musiq": ("imaging-quality",),
    "raft": ("dynamic-degree",),
}
"""Roles whose weights can be given, and the metrics that use them."""


def make_metric(name: str, models: Mapping[str, str], *, fps: float | None = None, device: str = "cpu") -> "Metric":
    """Make a metric by its name.

    Args:
        name: a name that ``vde --help`` lists, such as ``clarity``.
        models: folder, file or hub name of weights, by role: encoder, laion, dino, clip-b32, clip-l14, musiq, raft.
        fps: frames per second of the video, for ``dynamic-degree``.
        device: where models run.

    Raises:
        FileNotFoundError: if weights are missing. The message says which file is needed, and where.
        ValueError: if there is no such metric, if weights without a default are not given, or if torch cannot use the
            device.
    """
    _check_device(device)
    from vde_metrics.metrics.background import Background
    from vde_metrics.metrics.clarity import Clarity
    from vde_metrics.metrics.motion import Motion

    makers: dict[str, Callable[[], Metric]] = {
        "clarity": Clarity,
        "motion": Motion,
        "motion-smoothness": lambda: Motion(form="smoothness"),
        "background": Background,
        "subject": lambda: _subject(models, device),
        "aesthetic": lambda: _aesthetic(models, device),
        "subject-consistency": lambda: _subject_consistency(models, device),
        "background-consistency": lambda: _background_consistency(models, device),
        "aesthetic-quality": lambda: _aesthetic_quality(models, device),
        "imaging-quality": lambda: _imaging_quality(models, device),
        "dynamic-degree": lambda: _dynamic_degree(models, fps, device),
    }
    if name not in makers:
        raise ValueError(f"{name!r} is not a metric; expected one of {', '.join(makers)}")
    return makers[name]()


def check_metric_names(names: Iterable[str], protocol: str) -> None:
    """Raise ValueError if a name is not that of a metric of the protocol.

    Args:
        names: names as for `make_metric`.
        protocol: ``paper`` or ``released``.
    """
    known = PAPER if protocol == "paper" else RELEASED
    for name in names:
        if name not in known:
            raise ValueError(f"{name} is not a metric of the protocol {protocol}; expected one of {', '.join(known)}")


def check_metric_models(models: Mapping[str, str], names: Iterable[str]) -> None:
    """Raise ValueError if weights are given that none of the metrics uses.

    Args:
        models: weights by role, as for `make_metric`.
        names: names of the metrics.
    """
    names = tuple(names)
    for role in models:
        if not set(USERS[role]) & set(names):
            users = " and ".join(USERS[role])
            raise ValueError(f"--model {role}=...: none of {', '.join(names)} uses it; it is for {users}")


def _check_device(device: str) -> None:
    """Raise ValueError if torch does not know the device or cannot use it on this machine."""
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).split("\n")[0]
        raise ValueError(f"device is {device!r}, which torch cannot use here ({reason})") from error


def _subject(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics.metrics.subject import Subject
    from vde_metrics.models.efficientnet import EfficientNetLite0
    from vde_metrics.models.pretrained import PretrainedEncoder

    encoder: Encoder = (
        PretrainedEncoder(models["encoder"], device=device) if "encoder" in models else EfficientNetLite0(device=device)
    )
    return Subject(encoder=encoder)


def _aesthetic(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics.metrics.aesthetic import Aesthetic
    from vde_metrics.models.laion import LaionAesthetic
    from vde_metrics.models.pretrained import PretrainedEncoder

    layers = _laion(models)
    clip = models.get("clip-l14") or models.get("encoder") or "openai/clip-vit-large-patch14"
    return Aesthetic(predictor=LaionAesthetic(layers, encoder=PretrainedEncoder(clip, device=device)))


def _laion(models: Mapping[str, str]) -> str:
    """The file of LAION's layers, checked before a CLIP is downloaded for it."""
    if "laion" not in models:
        raise ValueError(
            "no aesthetic predictor was given: take sa_0_4_vit_l_14_linear.pth of "
            "github.com/LAION-AI/aesthetic-predictor and say --model laion=FILE"
        )
    from vde_metrics.models.laion import require_layers

    require_layers(Path(models["laion"]))
    return models["laion"]


def _subject_consistency(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics.vbench.consistency import SubjectConsistency
    from vde_metrics.vbench.encoders import DINO, DINO_B16

    return SubjectConsistency(encoder=DINO(models.get("dino", DINO_B16), device=device))


def _background_consistency(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics.vbench.consistency import BackgroundConsistency
    from vde_metrics.vbench.encoders import CLIP, CLIP_B32

    return BackgroundConsistency(encoder=CLIP(models.get("clip-b32", CLIP_B32), device=device))


def _aesthetic_quality(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics.models.laion import LaionAesthetic
    from vde_metrics.vbench.aesthetic_quality import AestheticQuality
    from vde_metrics.vbench.encoders import CLIP, CLIP_L14

    layers = _laion(models)
    encoder = CLIP(models.get("clip-l14", CLIP_L14), device=device)
    return AestheticQuality(predictor=LaionAesthetic(layers, encoder=encoder))


def _imaging_quality(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics.vbench.imaging_quality import MUSIQ_FILE, ImagingQuality, PyiqaMUSIQ

    return ImagingQuality(model=PyiqaMUSIQ(models.get("musiq", MUSIQ_FILE), device=device))


def _dynamic_degree(models: Mapping[str, str], fps: float | None, device: str) -> "Metric":
    from vde_metrics.vbench.dynamic_degree import RAFT_FILE, DynamicDegree, TorchvisionRAFT

    if fps is None:
        raise ValueError("dynamic-degree needs the frame rate, which the file does not say; leave this metric out")
    flow = TorchvisionRAFT(models.get("raft", RAFT_FILE), device=device)
    return DynamicDegree(flow=flow, fps=fps)
