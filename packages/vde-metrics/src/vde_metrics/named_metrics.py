"""The metrics that the command knows by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vde_metrics.protocols import Encoder, Metric

PAPER = ("clarity", "motion", "motion-smoothness", "background", "subject", "aesthetic")
"""Names under the paper's protocol."""
RELEASED = ("subject-consistency", "background-consistency", "aesthetic-quality", "imaging-quality", "dynamic-degree")
"""Names under the released protocol."""
WITHOUT_MODELS = ("clarity", "motion", "motion-smoothness", "background")
"""Those that look at pixels alone."""
DEFAULTS = {"paper": ("clarity", "motion"), "released": ("subject-consistency", "background-consistency")}
MODELS = {
    "encoder": "subject: a DINO, CLIP or SigLIP instead of EfficientNet-lite0; aesthetic: the CLIP",
    "laion": "aesthetic, aesthetic-quality: LAION's linear head",
    "dino": "subject-consistency",
    "clip-b32": "background-consistency",
    "clip-l14": "aesthetic-quality, aesthetic",
    "musiq": "imaging-quality",
    "raft": "dynamic-degree",
}
"""Roles whose weights can be given, and what looks through them."""


_USERS = {
    "encoder": ("subject", "aesthetic"),
    "laion": ("aesthetic", "aesthetic-quality"),
    "dino": ("subject-consistency",),
    "clip-b32": ("background-consistency",),
    "clip-l14": ("aesthetic-quality", "aesthetic"),
    "musiq": ("imaging-quality",),
    "raft": ("dynamic-degree",),
}
"""Metrics that look through a role's weights."""


def make_metric(name: str, models: Mapping[str, str], *, fps: float | None = None, device: str = "cpu") -> "Metric":
    """The metric of this name.

    Args:
        name: one of `PAPER` or `RELEASED`.
        models: folder, file or hub name of weights, by role.
        fps: frame rate of the video, for the dynamic degree.
        device: where models run.

    Raises:
        FileNotFoundError: if weights are not there; says which file goes where.
        ValueError: if there is no such metric, weights that have no default are not given, or torch has no such device
            here.
    """
    _check_device(device)
    from vde_metrics import Background, Clarity, Motion

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
        raise ValueError(f"{name!r} is no metric; there are {', '.join(makers)}")
    return makers[name]()


def check_names(names: Iterable[str], protocol: str) -> None:
    """Refuse names that are no metrics of the protocol."""
    known = PAPER if protocol == "paper" else RELEASED
    for name in names:
        if name not in known:
            raise ValueError(f"{name} is no metric of the protocol {protocol}; its metrics are {', '.join(known)}")


def check_models(models: Mapping[str, str], names: Iterable[str]) -> None:
    """Refuse weights that none of the metrics looks through."""
    for role in models:
        if not set(_USERS[role]) & set(names):
            users = " and ".join(_USERS[role])
            raise ValueError(f"--model {role}=...: none of {', '.join(names)} looks through it; it is for {users}")


def _check_device(device: str) -> None:
    """Refuse a device that torch does not know or cannot use on this machine."""
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).split("\n")[0]
        raise ValueError(f"device is {device!r}, which torch cannot use here ({reason})") from error


def _subject(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics import EfficientNetLite0, PretrainedEncoder, Subject

    encoder: Encoder = (
        PretrainedEncoder(models["encoder"], device=device) if "encoder" in models else EfficientNetLite0(device=device)
    )
    return Subject(encoder=encoder)


def _aesthetic(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics import Aesthetic, LaionAesthetic, PretrainedEncoder

    head = _laion(models)
    clip = models.get("clip-l14") or models.get("encoder") or "openai/clip-vit-large-patch14"
    return Aesthetic(predictor=LaionAesthetic(head, encoder=PretrainedEncoder(clip, device=device)))


def _laion(models: Mapping[str, str]) -> str:
    if "laion" not in models:
        raise ValueError(
            "no aesthetic predictor was given: take sa_0_4_vit_l_14_linear.pth of "
            "github.com/LAION-AI/aesthetic-predictor and say --model laion=FILE"
        )
    from vde_metrics.aesthetic import require_layers

    require_layers(Path(models["laion"]))  # before a CLIP is downloaded
    return models["laion"]


def _subject_consistency(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics import vbench

    return vbench.SubjectConsistency(encoder=vbench.DINO(models.get("dino", vbench.DINO_B16), device=device))


def _background_consistency(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics import vbench

    return vbench.BackgroundConsistency(encoder=vbench.CLIP(models.get("clip-b32", vbench.CLIP_B32), device=device))


def _aesthetic_quality(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics import LaionAesthetic, vbench

    head = _laion(models)
    encoder = vbench.CLIP(models.get("clip-l14", vbench.CLIP_L14), device=device)
    return vbench.AestheticQuality(predictor=LaionAesthetic(head, encoder=encoder))


def _imaging_quality(models: Mapping[str, str], device: str) -> "Metric":
    from vde_metrics import vbench

    return vbench.ImagingQuality(model=vbench.PyiqaMUSIQ(models.get("musiq", vbench.MUSIQ_FILE), device=device))


def _dynamic_degree(models: Mapping[str, str], fps: float | None, device: str) -> "Metric":
    from vde_metrics import vbench

    if fps is None:
        raise ValueError("dynamic-degree needs the frame rate, which the file does not say")
    flow = vbench.TorchvisionRAFT(models.get("raft", vbench.RAFT_FILE), device=device)
    return vbench.DynamicDegree(flow=flow, fps=fps)
