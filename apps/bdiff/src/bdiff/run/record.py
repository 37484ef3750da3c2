"""What a run leaves beside the video: run.json to repeat it, the trace of what was remembered, and the drift."""

import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bdiff.files.whole import sha256, to_json, write_whole
from bdiff.output.trace import write_trace
from bdiff.run.state import VIDEO
from bdiff_core import Chunk
from bdiff_core.checkpoint.places import read_json, visible

if TYPE_CHECKING:
    from bdiff.run.loading import Parts
    from kvbank import KVBank

_TOLD = ("sheet.png", "trace.json", "trace.svg", "trace.md", "drift.json", "drift.html")
"""Files beside the video that tell of it."""

_PACKAGES = ("bdiff", "bdiff-core", "kvbank", "noisesched", "vde-metrics", "torch", "av")


class Record:
    """Collects what a run did, chunk by chunk."""

    def __init__(self, parts: "Parts", bank: "KVBank", *, command: str) -> None:
        self._parts, self._bank, self._command = parts, bank, command
        self._started_at = datetime.now(UTC)
        self._started = self._last = time.perf_counter()
        self._chunks: list[dict[str, Any]] = []
        self.drift: dict[str, Any] | None = None
        """VDE by metric, once measured."""

    @property
    def num_chunks(self) -> int:
        """Chunks so far."""
        return len(self._chunks)

    @property
    def num_frames(self) -> int:
        """Frames of the chunks so far."""
        return sum(chunk["frames"] for chunk in self._chunks)

    @property
    def boundaries(self) -> list[int]:
        """0, the first frame of every later chunk, the number of frames."""
        bounds = [0]
        for chunk in self._chunks:
            bounds.append(bounds[-1] + chunk["frames"])
        return bounds

    def add(self, entry: dict[str, Any]) -> None:
        """Notes a chunk that is on disk, by its `entry`."""
        self._chunks.append(entry)

    def entry(self, chunk: Chunk, *, num_frames: int) -> dict[str, Any]:
        """What is told of a chunk that was made since the last one."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return {
            "index": chunk.index,
            "prompt": self._parts.plan[chunk.index].prompt,
            "frames": num_frames,
            "seed": self._parts.script.takes[chunk.index].seed,
            "given": chunk.index in self._parts.prefix,
            "shown": self._shown(chunk),
            "seconds": round(seconds, 3),
            "memory_bytes": self._bank.nbytes,
        }

    def _shown(self, chunk: Chunk) -> list[dict[str, Any]]:
        """The chunks that this one was shown; none in a mode without memory."""
        recall = chunk.recall
        if recall is None:
            return []
        spans = list(zip(*recall.spans, strict=True)) if recall.spans else [()] * len(recall.chunks)
        tokens = self._parts.model.config.num_tokens(*chunk.latents.shape[2:])
        return [
            {
                "chunk": past,
                "kind": kind,
                "similarity": None if similarity is None else round(float(similarity), 6),
                "share_of_tokens": round(sum(span) / max(1, len(span)) / tokens, 4),
            }
            for past, kind, similarity, span in zip(recall.chunks, recall.kinds, recall.similarity, spans, strict=True)
        ]

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the trace (trace.json, trace.svg, trace.md) and then run.json; returns what that holds."""
        content = self.to_dict()
        timeless = [{k: v for k, v in chunk.items() if k != "seconds"} for chunk in self._chunks]
        trace = {"policy": repr(self._bank.policy), "chunks": timeless}
        _write_json(folder / "trace.json", trace)
        write_trace(trace, folder, fps=self._parts.sampling.fps)
        content["files"] = {name: sha256(folder / name) for name in _TOLD if (folder / name).is_file()}
        _write_json(folder / "run.json", content)
        return content

    def to_dict(self) -> dict[str, Any]:
        """All that is needed to make the video again, and what it cost."""
        script, sampling = self._parts.script, self._parts.sampling
        seconds = sum(chunk["seconds"] for chunk in self._chunks)
        length = self.num_frames / sampling.fps
        return {
            "complete": len(self._chunks) == len(self._parts.plan),
            "out": str(self._parts.out),
            "command": self._command,
            "started": self._started_at.isoformat(timespec="seconds"),
            "seed": script.seed,
            "policy": repr(self._bank.policy),
            "image": None if script.image is None else asdict(script.image),
            "init_video": None if script.init_video is None else asdict(script.init_video),
            "sampling": {name: getattr(sampling, name) for name in sampling.__slots__},
            "device": script.device,
            "dtype": script.dtype,
            "offload": script.offload,
            "attention": script.attention,
            "title": script.title,
            "prompts": [take.prompt for take in script.takes],
            "seeds": [take.seed for take in script.takes],
            "model": script.model,
            "weights": dict(script.weights),
            "video": {
                "chunks": len(self._chunks),
                "frames": self.num_frames,
                "seconds": round(length, 3),
                "sha256": sha256(self._parts.out / VIDEO),
                "height": sampling.height * sampling.scale,
                "width": sampling.width * sampling.scale,
            },
            "timing": {
                "load_seconds": round(self._parts.seconds_to_load, 3),
                "generate_seconds": round(seconds, 3),
                "seconds_per_chunk": round(seconds / max(1, len(self._chunks)), 3),
                "seconds_per_second_of_video": round(seconds / length, 3) if length else None,
            },
            "memory": {"kv_bytes": self._bank.nbytes, "peak_process_bytes": _peak_memory()},
            "drift": self.drift,
            "versions": _versions(),
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        }


def write_drift(video: Path, folder: Path, *, boundaries: Sequence[int]) -> dict[str, Any]:
    """Measures a video chunk by chunk, writes drift.json and drift.html, returns the errors by metric."""
    from vde_metrics import measure

    report = measure(video, chunk_frames=boundaries)
    write_whole(folder / "drift.json", report.to_json() + "\n")
    write_whole(folder / "drift.html", report.to_html())
    return {"vde": report.vde, "vde_normalized": report.vde_normalized, "frozen_chunks": list(report.frozen_chunks)}


def lacks(run: Path) -> str | None:
    """What a finished run lacks of its files, in words; None if nothing.

    A video that was changed on purpose, with sound added for example, still shows all frames and lacks nothing.
    """
    try:
        record = read_json(run / "run.json")
        drift, digest, files = record["drift"], record["video"].get("sha256"), dict(record.get("files", {}))
        num_frames = int(record["video"]["frames"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "run.json is gone or damaged"
    told = [name for name in _TOLD if drift is not None or not name.startswith("drift")]
    if gone := [name for name in (VIDEO, *told) if not (run / name).is_file()]:
        return f"{gone[0]} is gone"
    if changed := [name for name in told if name in files and sha256(run / name) != files[name]]:
        return f"{changed[0]} was changed"
    video = run / VIDEO
    if digest is not None and sha256(video) == digest:
        return None
    return None if _num_frames(video) == num_frames else f"{VIDEO} is cut or damaged"


def _num_frames(video: Path) -> int | None:
    """Frames of a video that can be decoded; None if it is damaged."""
    from vde_metrics import VideoFile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return VideoFile.probe(video).count_frames()
    except (OSError, ValueError, RuntimeWarning):
        return None


def digests(model: Path) -> dict[str, str]:
    """SHA-256 of every file of a model folder."""
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler", "image_encoder", "image_processor")
    found = [
        *visible(model, "*.safetensors"),
        *visible(model, "*.json"),
        *(path for part in parts for path in visible(model / part)),
    ]
    return {path.relative_to(model).as_posix(): sha256(path) for path in sorted(found) if path.is_file()}


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
