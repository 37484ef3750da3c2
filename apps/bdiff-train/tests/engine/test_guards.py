"""A run stops where it must, and says which batch it was."""

import json
import math

import pytest
import torch
from torch import nn

from bdiff_train.engine import GuardConfig, RunConfig, Task, fit
from bdiff_train.engine.guards import Guard


def loss_with_factors(factors):
    def loss(model, step, generator):
        value = (model(torch.randn(4, 5, generator=generator)) - 1).square().mean()
        return value * factors.get(step, 1.0), {}

    return loss


def name(step, generator):
    return {"stories": [step, 7], "chunks": [3, 4]}


def run(out, factors, **guard):
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    config = RunConfig(out=out, max_steps=12, guard=GuardConfig(**guard), checkpoint_minutes=0, seed=5, log_steps=1)
    fit(model, config, Task(loss=loss_with_factors(factors), batch_name=name))
    return model


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_a_run_with_its_batch_named(tmp_path, factor):
    with pytest.raises(FloatingPointError, match=r"up to step 6.*seed 5, step 6, .*stories \[6, 7\], chunks \[3, 4\]"):
        run(tmp_path, {6: factor}, bad_steps=1)
    line = json.loads((tmp_path / "bad_batches.jsonl").read_text())
    assert line["step"] == 6
    assert line["micro_batches"][0]["stories"] == [6, 7]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6


def test_a_spike_is_refused_and_the_run_goes_on(tmp_path, caplog):
    calm = run(tmp_path / "calm", {8: 0.0}, spike=30.0, window=4)  # a step of that batch without any gradient
    spiked = run(tmp_path / "spiked", {8: 1e6}, spike=30.0, window=4)
    assert "the loss is" in caplog.text
    assert "stories [8, 7]" in caplog.text
    assert torch.allclose(calm.weight, spiked.weight, atol=0.02)
    assert not (tmp_path / "calm" / "bad_batches.jsonl").exists()


def test_what_is_usual_survives_a_stop(tmp_path):
    """Otherwise a resumed run would accept what an unbroken one refuses."""
    whole = run(tmp_path / "whole", {8: 1e6}, spike=30.0, window=6)
    torch.manual_seed(0)
    config = RunConfig(
        out=tmp_path / "parts", max_steps=12, guard=GuardConfig(spike=30.0, window=6), checkpoint_minutes=0, seed=5
    )
    dies = loss_with_factors({8: 1e6})

    def loss(model, step, generator):
        if step == 7:
            raise KeyboardInterrupt
        return dies(model, step, generator)

    with pytest.raises(KeyboardInterrupt):
        fit(nn.Linear(5, 3), config, Task(loss=loss))
    model = nn.Linear(5, 3)
    fit(model, config, Task(loss=dies))
    assert torch.equal(model.weight, whole.weight)


def test_parts_that_take_turns_are_compared_separately():
    guard = Guard(config=GuardConfig(spike=10.0, window=2))
    for _ in range(2):
        assert guard.complaint("generator.", 1.0, 1.0) is None
        assert guard.complaint("critic.", 1000.0, 1000.0) is None
    assert guard.complaint("critic.", 2000.0, 2000.0) is None
    assert "the loss is 2000 times its median" in guard.complaint("generator.", 2000.0, 1.0)
    assert "the gradient is 2000 times its median" in guard.complaint("generator.", 1.0, 2000.0)
    assert guard.bad == 2
    assert guard.complaint("generator.", -5.0, 1.0) is None
    assert guard.bad == 0


def test_guards_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"spike is 1.0"):
        GuardConfig(spike=1.0)


def test_a_checkpoint_of_earlier_versions_is_gone_on_with(tmp_path):
    torch.manual_seed(0)
    whole, model = nn.Linear(5, 3), nn.Linear(5, 3)
    model.load_state_dict(whole.state_dict())
    config = RunConfig(out=tmp_path / "whole", max_steps=4)
    fit(whole, config, Task(loss=loss_with_factors({})))
    parts = RunConfig(out=tmp_path / "parts", max_steps=4, checkpoint_minutes=0)

    def dies(module, step, generator):
        if step == 2:
            raise KeyboardInterrupt
        return loss_with_factors({})(module, step, generator)

    with pytest.raises(KeyboardInterrupt):
        fit(model, parts, Task(loss=dies))
    old = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    del old["guard"]
    assert set(old) == {"model", "average", "optimizers", "random", "step", "seconds", "evaluation"}
    torch.save(old, tmp_path / "parts" / "checkpoint.pt")
    fit(model, parts, Task(loss=loss_with_factors({})))
    assert torch.equal(model.weight, whole.weight)
