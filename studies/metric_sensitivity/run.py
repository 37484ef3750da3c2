"""The study itself: measures every clip with every fault at every strength, one line for each video."""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness import append_lines, describe_machine, read_lines, run_jobs, write_page
from studies.metric_sensitivity.clips import REAL, STORIES, Clip, check_height, footage_path, load_clip
from studies.metric_sensitivity.faults import ANSWERS, CONTROLS, STRENGTHS, cropped, scaled, with_fault
from studies.metric_sensitivity.page import sensitivity_figures, sensitivity_parts

GOOD_QUALITY = "18"
"""Constant rate factor of x264 for re-encoding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityConfig:
    """What to measure."""

    out: Path
    """Folder of the lines, the summary and the page."""
    clips: tuple[str, ...] = (*REAL, *STORIES)
    """Clips by name."""
    faults: tuple[str, ...] = tuple(ANSWERS)
    """Faults by name."""
    seconds: float = 60.0
    """Length of every video."""
    fps: float = 8.0
    """Frames per second."""
    height: int = 128
    """Height of the frames in pixels."""
    num_chunks: int = 10
    """Chunks of every video."""
    workers: int = 1
    """Processes."""

    def __post_init__(self) -> None:
        check_height(self.height)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for lines to belong together."""
        return {key: getattr(self, key) for key in ("seconds", "fps", "height", "num_chunks")}


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityJob:
    """One clip with one fault, one control, or unchanged."""

    clip: str
    """Name of the clip."""
    change: str
    """A fault, a control, or ``clean``."""
    strength: float
    """Strength of the fault; 1 for controls, 0 for the clean video."""


def tiny_config(config: SensitivityConfig) -> SensitivityConfig:
    """The same with sizes that take seconds; the figures say nothing."""
    return replace(config, clips=STORIES[:1], seconds=0.75, height=64, num_chunks=2)


def measure_sensitivity(
    config: SensitivityConfig, *, on_job: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Measure what is not measured yet, then write the summary and the page; returns the summary.

    Raises:
        FileNotFoundError: if the real clips are not installed.
        ValueError: if a name is not known, or the folder holds figures of other settings.
    """
    for name in config.clips:
        if name in REAL:
            footage_path(name)
        elif name not in STORIES:
            raise ValueError(f"clip is {name!r}; expected one of {', '.join((*REAL, *STORIES))}")
    path = config.out / "films.jsonl"
    lines = read_lines(path)
    for line in lines:
        if line["identity"] != config.identity:
            raise ValueError(f"{config.out} holds figures of other settings ({line['identity']}); take another folder")
    jobs = planned(config)
    done = {_key(line) for line in lines}
    left = [job for job in jobs if _key(asdict(job)) not in done]
    results = run_jobs(left, config, load=_same, work=_work, workers=config.workers)
    for number, line in enumerate(append_lines(path, results), 1):
        lines.append(line)
        if on_job is not None:
            on_job(len(done) + number, len(done) + len(left))
    wanted = {_key(asdict(job)) for job in jobs}
    kept = sorted((line for line in lines if _key(line) in wanted), key=_key)
    summary = {
        "config": {**asdict(config), "out": str(config.out)},
        "machine": describe_machine(),
        **sensitivity_figures(kept),
    }
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_page(config.out / "page.md", sensitivity_parts(summary), title="Do the metrics measure?")
    return summary


def planned(config: SensitivityConfig) -> list[SensitivityJob]:
    """Every clip unchanged, with every control, and with every fault at every strength."""
    changes = [("clean", 0.0), *((control, 1.0) for control in CONTROLS)]
    changes += [(fault, strength) for fault in config.faults for strength in STRENGTHS]
    return [
        SensitivityJob(clip=clip, change=change, strength=strength)
        for clip in config.clips
        for change, strength in changes
    ]


def _key(line: dict[str, Any]) -> tuple[str, str, float]:
    return line["clip"], line["change"], line["strength"]


def _same(config: SensitivityConfig) -> SensitivityConfig:
    return config


@lru_cache(maxsize=1)  # jobs come clip by clip
def _clip(name: str, seconds: float, fps: float, height: int, num_chunks: int) -> Clip:
    return load_clip(name, seconds=seconds, fps=fps, height=height, num_chunks=num_chunks)


def _work(config: SensitivityConfig, job: SensitivityJob) -> dict[str, Any]:
    clip = _clip(job.clip, config.seconds, config.fps, config.height, config.num_chunks)
    if job.change == "re-encoding":
        frames, subject = _encoded(clip), clip.subject
    elif job.change == "scaling":
        frames, subject = scaled(clip.frames), _nearest(clip)
    elif job.change == "cropping":
        frames, subject = cropped(clip.frames), cropped(clip.subject[..., None])[..., 0]
    elif job.change == "clean":
        frames, subject = clip.frames, clip.subject
    else:
        faulty = with_fault(clip, job.change, job.strength, num_chunks=config.num_chunks)
        frames, subject = faulty.frames, faulty.subject
    found = _measure(frames, subject, config)
    return {**asdict(job), "identity": config.identity, "metrics": found}


@lru_cache(maxsize=1)
def _encoder() -> Any:
    from vde_metrics import EfficientNetLite0

    return EfficientNetLite0()


def drift_metrics(subject: Any) -> list[Any]:
    """The metrics that need no download; the place of the subject is given."""
    from vde_metrics import Background, Clarity, GivenMasks, Motion, Subject

    masks = GivenMasks(subject)
    return [
        Clarity(),
        Motion(),
        Motion(form="smoothness"),
        Background(subject=masks),
        Subject(encoder=_encoder(), crops=masks),
    ]


def _measure(frames: Any, subject: Any, config: SensitivityConfig) -> dict[str, Any]:
    from vde_metrics import measure

    metrics = drift_metrics(subject)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # infinite errors are in the figures
        report = measure(frames, metrics=metrics, num_chunks=config.num_chunks, fps=config.fps)
    return {
        metric.name: {
            "vde_normalized": str(metric.vde_normalized)
            if metric.vde_normalized == float("inf")
            else metric.vde_normalized,
            "scores": list(metric.scores),
        }
        for metric in report.metrics
    }


def _nearest(clip: Clip) -> Any:
    """The mask at the size of the scaled video."""
    import torch.nn.functional as F

    size = scaled(clip.frames[:1]).shape[1:3]
    return F.interpolate(clip.subject[:, None].float(), size=tuple(size))[:, 0] > 0.5


def _encoded(clip: Clip) -> Any:
    """The video after x264 at good quality."""
    import av
    import torch

    from vde_metrics import VideoFile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with av.open(str(path), "w") as container:
            # the tune makes the encoder deterministic
            options = {"crf": GOOD_QUALITY, "tune": "zerolatency"}
            stream = container.add_stream("libx264", rate=round(clip.fps), options=options)
            stream.height, stream.width, stream.pix_fmt = clip.frames.shape[1], clip.frames.shape[2], "yuv420p"
            for frame in clip.frames.numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.copy(), format="rgb24")))
            container.mux(stream.encode())
        return torch.stack(list(VideoFile.probe(path).frames()))
