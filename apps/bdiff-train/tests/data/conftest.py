"""A folder of four short videos with captions."""

import json
from pathlib import Path

import pytest
import torch

from bdiff.output import VideoWriter

FPS, SECONDS = 16, 6


@pytest.fixture(scope="session")
def write_video():
    return _write_video


def _write_video(path, number):
    """Each second has a grey of its own; the left and right quarters are white, and must be cropped away."""
    with VideoWriter(path, fps=FPS, height=32, width=64) as writer:
        for second in range(SECONDS):
            frames = torch.full((FPS, 32, 64, 3), 20 * second + 10 * number, dtype=torch.uint8)
            frames[:, :, :16] = frames[:, :, 48:] = 255
            writer.add(frames)
    captions = [f"Second {second} of clip {number} (0{second}s - 0{second + 1}s)" for second in range(SECONDS)]
    path.with_suffix(".json").write_text(json.dumps({"captions": captions}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made: Path = tmp_path_factory.mktemp("videos")
    for number in range(4):
        _write_video(made / f"clip {number}.mp4", number)
    return made
