"""The ways to measure a film, and what one of them takes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

WAYS = {
    "three": "clarity, motion, background",
    "five": "all five, one encoder for subject and aesthetic",
    "five apart": "all five, an encoder each",
    "plain": "all five, the straightforward way",
}
HEAD = "head.safetensors"
"""A linear layer of random weights beside the films: what it says of beauty means nothing, what it costs is real."""
EVERY = 0.02
"""Seconds from one look at the memory to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a way took, and what it found."""

    seconds: float
    """By the clock."""
    processor_seconds: float
    """Of all threads."""
    bytes_before: int
    """Anonymous memory with all models loaded, before the first frame."""
    bytes_most: int
    """The most while measuring."""
    frames: int
    """Of the film."""
    size: tuple[int, int]
    """Height and width."""
    scores: Mapping[str, Sequence[float]]
    """Of every chunk, by metric."""


def measure_way(way: str, video: Path, num_chunks: int) -> Measured:
    """Measure a film in one of `WAYS`; models are loaded before the clock starts."""
    import torch

    from vde_metrics.video import VideoFile

    encoder = _encoder()
    encoder.encode([torch.zeros(8, 8, 3, dtype=torch.uint8)])
    first = next(iter(VideoFile.probe(video).frames()))
    head = video.with_name(HEAD)
    run = _plain(encoder, head, video, num_chunks) if way == "plain" else _meter(way, encoder, head, video, num_chunks)
    before = anonymous_bytes()
    with _Watch() as watch:
        started, worked = time.perf_counter(), time.process_time()
        frames, scores = run()
        seconds, processor_seconds = time.perf_counter() - started, time.process_time() - worked
    return Measured(
        seconds=seconds,
        processor_seconds=processor_seconds,
        bytes_before=before,
        bytes_most=max(before, watch.most),
        frames=frames,
        size=(first.shape[0], first.shape[1]),
        scores=scores,
    )


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


Run = Callable[[], tuple[int, dict[str, list[float]]]]
"""Gives the number of frames and the scores."""


def _meter(way: str, encoder: Any, head: Path, video: Path, num_chunks: int) -> Run:
    from vde_metrics import Aesthetic, Background, Clarity, LaionAesthetic, Motion, Subject, measure

    metrics: list[Any] = [Clarity(), Motion(), Background()]
    if way != "three":
        judge = LaionAesthetic(head, encoder=encoder if way == "five" else _encoder("the other encoder"))
        metrics += [Subject(encoder=encoder), Aesthetic(predictor=judge)]

    def run() -> tuple[int, dict[str, list[float]]]:
        report = measure(video, metrics=metrics, num_chunks=num_chunks)
        return report.num_frames, {name: list(scores) for name, scores in report.scores.items()}

    return run


def _plain(encoder: Any, head: Path, video: Path, num_chunks: int) -> Run:
    from safetensors.numpy import load_file

    from studies.metric_cost.plain import plain_scores

    weight = load_file(head)["weight"][0]
    return lambda: plain_scores(video, num_chunks=num_chunks, encoder=encoder, head=weight)


def _encoder(name: str | None = None) -> Any:
    """EfficientNet-lite0; under another name it shares nothing with the first."""
    from vde_metrics import EfficientNetLite0

    encoder = EfficientNetLite0()
    encoder.name = encoder.name if name is None else name
    return encoder


class _Watch:
    """The most anonymous memory while it is open."""

    def __init__(self) -> None:
        self.most = 0
        self._closed = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(EVERY):
            self.most = max(self.most, anonymous_bytes())
