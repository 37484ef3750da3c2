"""What a run leaves beside the video: run.json to repeat it, contact sheet, trace of the memory, drift."""

import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from bdiff.files import sha256, to_json, write_whole
from bdiff.output.contact_sheet import Cell, draw_sheet, shown_on_sheet, thumbnail
from bdiff.output.trace import write_trace
from bdiff.run.loading import LoadedRun
from bdiff.run.recovery import Recovered
from bdiff.run.state import VIDEO, RunState
from bdiff.run.stored import StoredChunk
from bdiff_core import Chunk
from bdiff_core.files import whole_file

logger = logging.getLogger(__name__)

WRITTEN = ("sheet.png", "trace.json", "trace.svg", "trace.md", "drift.json", "drift.html")
"""Files beside the video and run.json."""

_PACKAGES = ("bdiff", "bdiff-core", "kvbank", "noisesched", "vde-metrics", "torch", "av")


class Record:
    """Collects what a run did, chunk by chunk, and writes it.

    Args:
        run: The loaded run.
        state: Its folder.
        recovered: Its memory, and what was given.
        command: The command line.
    """

    def __init__(self, run: LoadedRun, state: RunState, recovered: Recovered, *, command: str) -> None:
        self._run, self._state, self._command = run, state, command
        self._memory, self._given = recovered.memory, recovered.given
        self._started_at = datetime.now(UTC)
        self._started = self._last = time.perf_counter()
        self._chunks: list[dict[str, Any]] = []

    @property
    def num_chunks(self) -> int:
        """Chunks so far."""
        return len(self._chunks)

    def add(self, entry: dict[str, Any]) -> None:
        """Take note of a chunk that is on disk, by its entry."""
        self._chunks.append(entry)

    def keep(self, chunk: Chunk, *, packets: tuple[bytes, ...], middle: UInt8[Tensor, "h w 3"]) -> None:
        """Put a chunk on disk that was made since the last one, and take note of it.

        Args:
            chunk: The chunk.
            packets: Its encoded pictures.
            middle: Its middle frame.
        """
        entry = self._entry(chunk, num_frames=len(packets))
        picture = torch.from_numpy(thumbnail(middle.cpu().numpy()).copy())
        stored = StoredChunk(index=chunk.index, latents=chunk.latents, packets=packets, thumbnail=picture, entry=entry)
        self._state.add(stored, decoder_state=chunk.decoder_state)
        self.add(entry)

    def _entry(self, chunk: Chunk, *, num_frames: int) -> dict[str, Any]:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return {
            "index": chunk.index,
            "prompt": self._run.plan[chunk.index].prompt,
            "frames": num_frames,
            "seed": self._run.spec.chunks[chunk.index].seed,
            "given": chunk.index in self._given,
            "shown": self._shown(chunk),
            "seconds": round(seconds, 3),
            "memory_bytes": self._memory.nbytes,
        }

    def write(self, *, drift: bool = False) -> dict[str, Any]:
        """Write the contact sheet, the trace, and last run.json; returns what that holds.

        Args:
            drift: Measure the drift of the video, too.
        """
        folder, fps = self._run.out, self._run.sampling.fps
        measured = self._measure_drift() if drift and len(self._run.plan) > 1 else None
        if self._chunks:
            self._write_sheet(folder / "sheet.png")
        content = self._to_dict(measured)
        timeless = [{k: v for k, v in chunk.items() if k != "seconds"} for chunk in self._chunks]
        trace = {"policy": repr(self._memory.policy), "chunks": timeless}
        _write_json(folder / "trace.json", trace)
        write_trace(trace, folder, fps=fps)
        content["files"] = {name: sha256(folder / name) for name in WRITTEN if (folder / name).is_file()}
        _write_json(folder / "run.json", content)
        return content

    def _shown(self, chunk: Chunk) -> list[dict[str, Any]]:
        """The chunks that this one was shown; none in a mode without memory."""
        recall = chunk.recall
        if recall is None:
            return []
        spans = list(zip(*recall.spans, strict=True)) if recall.spans else [()] * len(recall.chunks)
        tokens = self._run.model.config.num_tokens(*chunk.latents.shape[2:])
        return [
            {
                "chunk": past,
                "kind": kind,
                "similarity": None if similarity is None else round(float(similarity), 6),
                "share_of_tokens": round(sum(span) / max(1, len(span)) / tokens, 4),
            }
            for past, kind, similarity, span in zip(recall.chunks, recall.kinds, recall.similarity, spans, strict=True)
        ]

    @property
    def _boundaries(self) -> list[int]:
        """0, the first frame of every later chunk, the number of frames."""
        bounds = [0]
        for chunk in self._chunks:
            bounds.append(bounds[-1] + chunk["frames"])
        return bounds

    def _measure_drift(self) -> dict[str, Any] | None:
        """The drift of the video; None where it cannot be measured, as of chunks of one frame."""
        video = self._run.out / VIDEO
        try:
            return write_drift(video, self._run.out, boundaries=self._boundaries)
        except ValueError as error:
            logger.warning("the drift of %s is not measured: %s", video, error)
            return None

    def _write_sheet(self, file: Path) -> None:
        spec, fps, bounds = self._run.spec, self._run.sampling.fps, self._boundaries
        seconds = bounds[-1] / fps
        subtitle = f"{self.num_chunks} chunks, {seconds:.1f} s · memory: {spec.policy} · seed {spec.seed}"
        shown = shown_on_sheet(self.num_chunks)
        cells = [_cell(self._state.chunk(index), seconds=bounds[index] / fps) for index in shown]
        recalled = {chunk for cell in cells for chunk, _ in cell.recall} - {cell.index for cell in cells}
        pictures = {chunk: self._state.chunk(chunk).thumbnail.numpy() for chunk in recalled}
        with whole_file(file) as partial:
            draw_sheet(cells, title=spec.title, subtitle=subtitle, pictures=pictures).save(partial, format="png")

    def _to_dict(self, drift: dict[str, Any] | None) -> dict[str, Any]:
        """All that is needed to make the video again, and what it cost."""
        spec, sampling = self._run.spec, self._run.sampling
        seconds = sum(chunk["seconds"] for chunk in self._chunks)
        num_frames = self._boundaries[-1]
        length = num_frames / sampling.fps
        return {
            "complete": len(self._chunks) == len(self._run.plan),
            "out": str(self._run.out),
            "command": self._command,
            "started": self._started_at.isoformat(timespec="seconds"),
            "seed": spec.seed,
            "policy": repr(self._memory.policy),
            "image": None if spec.image is None else asdict(spec.image),
            "init_video": None if spec.init_video is None else asdict(spec.init_video),
            "sampling": {name: getattr(sampling, name) for name in sampling.__slots__},
            "device": spec.device,
            "dtype": spec.dtype,
            "offload": spec.offload,
            "attention": spec.attention,
            "title": spec.title,
            "prompts": [chunk.prompt for chunk in spec.chunks],
            "seeds": [chunk.seed for chunk in spec.chunks],
            "model": spec.model,
            "weights": dict(spec.weights),
            "video": {
                "chunks": len(self._chunks),
                "frames": num_frames,
                "seconds": round(length, 3),
                "sha256": sha256(self._run.out / VIDEO),
                "height": sampling.height * sampling.scale,
                "width": sampling.width * sampling.scale,
            },
            "timing": {
                "load_seconds": round(self._run.seconds_to_load, 3),
                "generate_seconds": round(seconds, 3),
                "seconds_per_chunk": round(seconds / max(1, len(self._chunks)), 3),
                "seconds_per_second_of_video": round(seconds / length, 3) if length else None,
            },
            "memory": {"kv_bytes": self._memory.nbytes, "peak_process_bytes": _peak_memory()},
            "drift": drift,
            "versions": _versions(),
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        }


def write_drift(video: Path, folder: Path, *, boundaries: Sequence[int]) -> dict[str, Any]:
    """Measures a video chunk by chunk, writes drift.json and drift.html, returns the errors by metric."""
    from vde_metrics import html_page, measure

    report = measure(video, chunk_frames=boundaries)
    write_whole(folder / "drift.json", report.to_json() + "\n")
    write_whole(folder / "drift.html", html_page([report]))
    return {"vde": report.vde, "vde_normalized": report.vde_normalized, "frozen_chunks": list(report.frozen_chunks)}


def _cell(stored: StoredChunk, *, seconds: float) -> Cell:
    return Cell(
        index=stored.index,
        seconds=seconds,
        prompt=stored.entry["prompt"],
        picture=stored.thumbnail.numpy(),
        recall=tuple((shown["chunk"], shown["kind"]) for shown in stored.entry["shown"]),
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_whole(path, to_json(_finite(value)) + "\n")


def _finite(value: Any) -> Any:
    """JSON has no infinity: a drift from zero is written as the word."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
