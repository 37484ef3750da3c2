"""Features of frames on disk, found by the content of the video and the settings of the metric."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.models.digest import file_digest

FORMAT = 1
READ_FRAMES = 4096
"""How many rows are read together."""


class FeatureCache:
    """The features of one video file.

    The folder ``<folder>/<sha256 of the file>/`` holds ``video.json`` with the number and size of the frames. It also
    holds a file ``<metric>-<key>.npy`` for every metric, with one float32 row per frame. The key is a hash of the
    metric's settings, the models behind it, and the versions of the packages that computed the rows. A file is written
    under another name first, so it is never there in part.
    """

    def __init__(self, folder: Path, video: Path, *, versions: Mapping[str, str]) -> None:
        self.folder = folder / file_digest(video)
        self._versions = dict(versions)

    def path(self, name: str, key: str) -> Path:
        """Path of the features of a metric."""
        described = json.dumps([FORMAT, key, self._versions], sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npy"

    def size(self) -> tuple[int, int, int] | None:
        """Number, height and width of the frames; None if they are not known yet."""
        path = self.folder / "video.json"
        if not path.is_file():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["num_frames"], found["height"], found["width"]

    def keep_size(self, num_frames: int, height: int, width: int) -> None:
        """Save the number, height and width of the frames."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = _beside(self.folder / "video.json")
        path.write_text(json.dumps({"num_frames": num_frames, "height": height, "width": width}), encoding="utf-8")
        os.replace(path, self.folder / "video.json")


class FeatureFile:
    """Rows on disk. They are memory-mapped, so they need not fit in memory."""

    def __init__(self, path: Path, *, num_frames: int) -> None:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.ndim != 2 or len(rows) != num_frames or rows.dtype != np.float32:
            raise ValueError(
                f"{path}: holds {rows.dtype} of shape {rows.shape}; expected {num_frames} rows of float32; delete it"
            )
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, start: int) -> Float32[Tensor, "n k"]:
        """Up to 4096 rows, beginning at ``start``."""
        return torch.from_numpy(np.array(self._rows[start : start + READ_FRAMES]))


class FeatureWriter:
    """Writes rows to a temporary file; `close` gives it its name."""

    def __init__(self, path: Path, *, num_frames: int) -> None:
        self._path, self._part, self._num_frames = path, _beside(path), num_frames
        self._file: IO[bytes] | None = None

    def append(self, rows: Float32[Tensor, "n k"]) -> None:
        """Add the rows of the next frames."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
            shape = (self._num_frames, rows.shape[1])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        self._file.write(np.ascontiguousarray(rows.numpy(), dtype="<f4").tobytes())

    def close(self, *, complete: bool) -> None:
        """Keep the file if it is complete; delete it if not."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if complete:
            os.replace(self._part, self._path)
        else:
            self._part.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")
