"""The ways to measure a video, and the time and memory that one of them takes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bdiff_bench.harness import anonymous_bytes

WAYS = {
    "three": "clarity, motion, background",
    "five": "all five, one encoder for subject and aesthetic",
    "five apart": "all five, an encoder each",
    "plain": "all five, the straightforward way",
}
HEAD = "head.safetensors"
"""File of a linear layer with random weights, beside the videos; its score means nothing, its cost is real."""
_EVERY = 0.02
"""Seconds between two looks at the memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a way took, and the scores it gave."""

    seconds: float
    """Elapsed time."""
    processor_seconds: float
    """Processor time of all threads."""
    bytes_before: int
    """Anonymous memory with all models loaded, before the first frame."""
    bytes_most: int
    """Largest anonymous memory while measuring."""
    frames: int
    """Frames of the video."""
    size: tuple[int, int]
    """Height and width of the video."""
    scores: Mapping[str, Sequence[float | None]]
    """Scores of every chunk, by metric."""


def measure_way(way: str, video: Path, num_chunks: int) -> Measured:
    """Measure a video in one of `WAYS`; models are loaded before the clock starts."""
    import torch

    from vde_metrics import VideoFile

    encoder = _encoder()
    encoder.encode([torch.zeros(8, 8, 3, dtype=torch.uint8)])
    first = next(iter(VideoFile.probe(video).frames()))
    head = video.with_name(HEAD)
    run = (
        _straightforward(encoder, head, video, num_chunks)
        if way == "plain"
        else _ours(way, encoder, head, video, num_chunks)
    )
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


Run = Callable[[], tuple[int, Mapping[str, Sequence[float | None]]]]
"""Gives the number of frames and the scores."""


def _ours(way: str, encoder: Any, head: Path, video: Path, num_chunks: int) -> Run:
    from vde_metrics import Aesthetic, Background, Clarity, LaionAesthetic, Motion, Subject, measure

    metrics: list[Any] = [Clarity(), Motion(), Background()]
    if way != "three":
        predictor = LaionAesthetic(head, encoder=encoder if way == "five" else _encoder("the other encoder"))
        metrics += [Subject(encoder=encoder), Aesthetic(predictor=predictor)]

    def run() -> tuple[int, Mapping[str, Sequence[float | None]]]:
        report = measure(video, metrics=metrics, num_chunks=num_chunks)
        return report.num_frames, report.scores

    return run


def _straightforward(encoder: Any, head: Path, video: Path, num_chunks: int) -> Run:
    from safetensors.numpy import load_file

    from studies.metric_cost.straightforward import plain_scores

    weight = load_file(head)["weight"][0]
    return lambda: plain_scores(video, num_chunks=num_chunks, encoder=encoder, head=weight)


def _encoder(name: str | None = None) -> Any:
    """EfficientNet-lite0. Under another name it shares no results with the first."""
    from vde_metrics import EfficientNetLite0

    encoder = EfficientNetLite0()
    encoder.name = encoder.name if name is None else name
    return encoder


class _Watch:
    """Notes the largest anonymous memory of this process while it is open."""

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
        while not self._closed.wait(_EVERY):
            self.most = max(self.most, anonymous_bytes())
