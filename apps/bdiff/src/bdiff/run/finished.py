"""What a finished run lacks of its files."""

import warnings
from pathlib import Path

from bdiff.files import sha256
from bdiff.run.record import WRITTEN
from bdiff.run.state import VIDEO
from bdiff_core.files import read_json


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
    written = [name for name in WRITTEN if drift is not None or not name.startswith("drift")]
    if gone := [name for name in (VIDEO, *written) if not (run / name).is_file()]:
        return f"{gone[0]} is gone"
    if changed := [name for name in written if name in files and sha256(run / name) != files[name]]:
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
