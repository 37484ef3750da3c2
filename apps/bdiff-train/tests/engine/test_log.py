"""What the log says: digits, curves, throughput, and TensorBoard events."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from bdiff_train.engine import RunConfig, Task, Workload, fit
from bdiff_train.engine.log import TrainingLog, plot_log


def loss(model, step, generator):
    return (model(torch.randn(4, 5, generator=generator)) - 1).square().mean(), {}


def test_steps_of_a_long_run_keep_all_their_digits(tmp_path):
    log = TrainingLog(tmp_path)
    log.write(1_234_567, 8_765_432.1, {"loss": 0.123456789})
    assert json.loads(log.path.read_text()) == {"step": 1_234_567, "seconds": 8_765_430.0, "loss": 0.123457}


def test_curves_are_drawn_from_a_log(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [{"step": 1, "seconds": 1, "loss": 2.0}, {"step": 2, "seconds": 2, "psnr_db": 20.0}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_log(log, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as curve:
        assert curve.width > 500


def test_the_losses_of_parts_that_take_turns_are_drawn_apart(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = {}, Axes.plot

    def note(self, x, y, **style):
        drawn[style["label"]] = (x, y)
        return plot(self, x, y, **style)

    monkeypatch.setattr(Axes, "plot", note)
    log = tmp_path / "log.jsonl"
    lines = [
        {"step": 2, "seconds": 1, "loss": 2.0, "generator.loss": 3.0, "critic.loss": 1.0},
        {"step": 4, "seconds": 2, "loss": 1.0, "generator.loss": 1.5, "critic.loss": 0.5},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_log(log, tmp_path / "curve.png")
    assert drawn == {"generator.loss": ([2, 4], [3.0, 1.5]), "critic.loss": ([2, 4], [1.0, 0.5])}


def test_the_log_tells_throughput_and_its_share_of_the_machine(tmp_path):
    workload = Workload(tokens=100, flops=10**6, rate=1e9)
    config = RunConfig(out=tmp_path, max_steps=5, micro_batches=2, log_steps=2, workload=workload)
    fit(nn.Linear(5, 3), config, Task(loss=loss))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    for line in lines:
        assert line["tokens_per_second"] > 0
        share = line["tokens_per_second"] / workload.tokens * workload.flops / workload.rate
        assert line["matmul_share"] == pytest.approx(share, rel=1e-4)


class Events:
    """What TensorBoard's writer is written_events."""

    def __init__(self, log_dir, purge_step):
        self.log_dir, self.purge_step, self.scalars, self.closed = log_dir, purge_step, [], False
        Events.last = self

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def close(self):
        self.closed = True


def test_events_are_what_the_log_says_and_a_resumed_run_purges_what_came_after(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Events))
    for steps, purge in ((2, None), (4, 3)):
        config = RunConfig(out=tmp_path, max_steps=steps, log_steps=1, tensorboard=True)
        fit(nn.Linear(5, 3), config, Task(loss=loss))
        assert Events.last.log_dir == str(tmp_path / "tensorboard")
        assert Events.last.purge_step == purge
        assert Events.last.closed
        written = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        written_events = [(value, step) for name, value, step in Events.last.scalars if name == "loss"]
        expected = [(line["loss"], line["step"]) for line in written if line["step"] >= (purge or 1)]
        assert [step for _, step in written_events] == [step for _, step in expected]
        assert [value for value, _ in written_events] == pytest.approx([value for value, _ in expected], rel=1e-5)


def test_tensorboard_that_is_not_installed_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'bdiff-train\[tensorboard\]'"):
        TrainingLog(tmp_path, tensorboard=True)
