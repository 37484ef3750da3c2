"""A killed run ends where an unbroken one does; averages, time and micro-batches are what the settings say."""

import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from bdiff_train.engine import RunConfig, Task, fit, step_generator
from bdiff_train.engine import loop as run


@pytest.fixture
def no_curves(monkeypatch):
    """Drawing excerpts a second; one test below looks at what is drawn."""
    monkeypatch.setattr(run, "plot_log", lambda log, target: None)


def quadratic(model, step, generator):
    """A loss that needs its draws: a resumed run must see the ones it would have seen."""
    target = torch.randn(4, 3, generator=generator)
    return (model(torch.randn(4, 5, generator=generator)) - target).square().mean(), {"drawn": target.sum().item()}


def fit_linear(config, *, loss=quadratic, orthogonal=False, **rest):
    torch.manual_seed(1)
    model = nn.Linear(5, 3)
    task = Task(loss=loss, orthogonal=[model.weight] if orthogonal else [], **rest)
    result = fit(model, config, task)
    return model, result


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_six_steps_are_three_a_kill_and_three_more_bit_for_bit(tmp_path, orthogonal, killed_at):
    config = RunConfig(out=tmp_path / "whole", max_steps=6, checkpoint_minutes=0, learning_rate=0.1, log_steps=2)
    whole, _ = fit_linear(config, orthogonal=orthogonal)

    def dies(model, step, generator):
        if step == killed_at:
            raise KeyboardInterrupt
        return quadratic(model, step, generator)

    parts = dataclasses.replace(config, out=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        fit_linear(parts, loss=dies, orthogonal=orthogonal)
    resumed, result = fit_linear(parts, orthogonal=orthogonal)
    assert result.steps == 6
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    saved = [torch.load(path / "checkpoint.pt", weights_only=True) for path in (config.out, parts.out)]
    assert torch.equal(saved[0]["model"]["weight"], saved[1]["model"]["weight"])


_KILLED = """
import sys, time, torch
from pathlib import Path
from bdiff_train.engine import RunConfig, Task, fit
torch.manual_seed(1)
def loss(model, step, generator):
    if step == 20:
        print("hanging", flush=True)
        time.sleep(600)
    target = torch.randn(4, 3, generator=generator)
    return (model(torch.randn(4, 5, generator=generator)) - target).square().mean(), {}
fit(torch.nn.Linear(5, 3), RunConfig(out=Path(sys.argv[1]), max_steps=40, checkpoint_minutes=0), Task(loss=loss))
"""


def test_forty_steps_are_twenty_a_sigkill_and_twenty_more(tmp_path):
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "parts")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "hanging\n"
        os.kill(process.pid, signal.SIGKILL)
    config = RunConfig(out=tmp_path / "parts", max_steps=40, checkpoint_minutes=0)
    assert torch.load(config.out / "checkpoint.pt", weights_only=True)["step"] == 20
    resumed, _ = fit_linear(config)
    whole, _ = fit_linear(dataclasses.replace(config, out=tmp_path / "whole"))
    assert torch.equal(resumed.weight, whole.weight)


def test_the_log_of_a_resumed_run_has_every_line_once(tmp_path):
    config = RunConfig(out=tmp_path, max_steps=4, checkpoint_minutes=math.inf, log_steps=1)
    fit_linear(config)
    longer = dataclasses.replace(config, max_steps=8)

    def dies(model, step, generator):
        if step == 6:
            raise KeyboardInterrupt
        return quadratic(model, step, generator)

    with pytest.raises(KeyboardInterrupt):
        fit_linear(longer, loss=dies)
    fit_linear(longer)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))


def test_a_finished_run_changes_nothing_more(tmp_path):
    config = RunConfig(out=tmp_path, max_steps=3)
    first, _ = fit_linear(config)
    again, result = fit_linear(config)
    assert result.steps == 3
    assert torch.equal(first.weight, again.weight)


def test_time_is_counted_over_resumed_parts(tmp_path):
    def sleeps(model, step, generator):
        time.sleep(0.02)
        return quadratic(model, step, generator)

    config = RunConfig(out=tmp_path, minutes=0.1 / 60)
    _, first = fit_linear(config, loss=sleeps)
    assert 0.1 <= first.seconds < 1
    _, second = fit_linear(dataclasses.replace(config, minutes=0.2 / 60), loss=sleeps)
    assert second.steps > first.steps
    assert second.seconds >= 0.2
    _, third = fit_linear(config, loss=sleeps)
    assert third.steps == second.steps


def test_draws_of_a_step_depend_on_seed_and_step_alone():
    draws = {(seed, step): torch.rand(4, generator=step_generator(seed, step)) for seed in (0, 1) for step in (0, 1)}
    assert torch.equal(draws[0, 1], torch.rand(4, generator=step_generator(0, 1)))
    values = torch.stack(list(draws.values()))
    assert len(values.unique(dim=0)) == 4


def test_steps_without_a_finite_loss_are_skipped(tmp_path, caplog):
    def sometimes(model, step, generator):
        loss, figures = quadratic(model, step, generator)
        return (loss * math.nan if step in (1, 3) else loss), figures

    with caplog.at_level(logging.WARNING):
        model, result = fit_linear(RunConfig(out=tmp_path, max_steps=5), loss=sometimes)
    assert result.steps == 5
    assert model.weight.isfinite().all()
    assert [record.getMessage().split(" has ")[0] for record in caplog.records] == ["step 1", "step 3"]


def test_a_run_without_any_finite_loss_gives_up(tmp_path):
    def never(model, step, generator):
        return model.weight.sum() * math.inf, {}

    with pytest.raises(FloatingPointError, match=r"in 20 steps up to step 19; lower the learning rate"):
        fit_linear(RunConfig(out=tmp_path, max_steps=50), loss=never)


def test_evaluations_see_the_average_and_training_goes_on_from_the_weights(tmp_path, no_curves):
    seen = []

    def evaluate(model):
        seen.append((model.weight.clone(), model.training))
        return {"score": float(len(seen))}

    config = RunConfig(out=tmp_path, max_steps=4, evaluate_minutes=0, learning_rate=0.1)
    plain, _ = fit_linear(dataclasses.replace(config, out=tmp_path / "plain"))
    watched, result = fit_linear(config, evaluate=evaluate)
    assert torch.equal(plain.weight, watched.weight)
    assert torch.equal(seen[-1][0], watched.weight)
    assert not seen[0][1]
    assert result.evaluation == {"score": 4.0}


def test_a_run_stops_when_it_is_good_enough(tmp_path, no_curves):
    config = RunConfig(out=tmp_path, max_steps=50, evaluate_minutes=0)
    scores = iter(range(50))
    _, result = fit_linear(config, evaluate=lambda model: {"score": next(scores)}, good_enough=lambda f: f["score"] > 2)
    assert result.steps == 4
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_accumulated_micro_batches_are_one_large_batch(tmp_path):
    def pairs(model, step, generator):
        x = torch.randn(4, 5, generator=generator)
        return model(x).square().mean(), {}

    def both(model, step, generator):
        parts = [pairs(model, step, step_generator(0, step, number))[0] for number in range(2)]
        return sum(parts) / 2, {}

    models = []
    for name, loss, count in (("two", pairs, 2), ("one", both, 1)):
        torch.manual_seed(0)
        models.append(nn.Linear(5, 3))
        fit(models[-1], RunConfig(out=tmp_path / name, max_steps=5, micro_batches=count, log_steps=1), Task(loss=loss))
    torch.testing.assert_close(models[0].weight, models[1].weight)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"))


def test_the_first_micro_batch_draws_what_a_step_drew_before_there_were_others():
    before = np.random.SeedSequence([7, 3]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    assert step_generator(7, 3).initial_seed() == int(before)
    assert step_generator(7, 3, 1).initial_seed() != int(before)
