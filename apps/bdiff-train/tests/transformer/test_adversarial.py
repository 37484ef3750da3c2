"""Generator and critic take turns, and each minimises its own loss."""

import json
from dataclasses import replace

import pytest
import torch

from bdiff_train.engine import RunConfig, Task, fit, step_generator


@pytest.mark.parametrize("number", range(3))
def test_generator_and_critic_take_turns_and_a_killed_run_goes_on_exactly(tmp_path, number, objectives, make_task):
    def run(out, *, dies_at=None, steps=4):
        pair, objective = list(objectives())[number]
        task = make_task(objective.config, objective)
        before = {name: value.clone() for name, value in pair.state_dict().items()}

        def loss(module, step, generator):
            if step == dies_at:
                raise KeyboardInterrupt
            return task.loss(module, step, generator)

        config = RunConfig(out=tmp_path / out, max_steps=steps, learning_rate=1e-3, checkpoint_minutes=0, ema_decay=0.0)
        fit(pair, config, Task(loss=loss, part=task.part, draws=task.draws, batch_name=task.batch_name))
        return before, pair.state_dict()

    before, after = run("critic", steps=1)
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"critic"}
    after_critic = after
    _, after = run("critic", steps=2)
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, after_critic[name])}
    assert changed == {"generator"}
    _, whole = run("whole")
    line = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[0])
    for name in ("loss", "gradient"):  # a line is of as many steps of one as of the other
        assert line[name] == pytest.approx((line[f"generator.{name}"] + line[f"critic.{name}"]) / 2, rel=1e-4)
    with pytest.raises(KeyboardInterrupt):
        run("parts", dies_at=3)
    _, parts = run("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_generator_whose_fidelity_counts_minimises_the_sum(objectives, make_task):
    pair, objective = next(objectives())
    task = make_task(objective.config, objective, fidelity_weight=0.5)
    loss, figures = task.loss(pair, 1, step_generator(0, 1))
    expected = objective.config.weight * figures["adversarial"] + 0.5 * figures["fidelity"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_generator_sees_the_real_videos_that_as_many_steps_without_a_critic_see(objectives, make_task):
    pair, objective = next(objectives())
    task = make_task(objective.config, objective, fidelity_weight=1.0)
    plain = replace(task, config=replace(task.config, self_forcing=None), objective=None)
    turns = objective.config.critic_steps + 1
    for turn in range(3):
        step = turn * turns + objective.config.critic_steps
        assert task.draws(step) == plain.draws(turn) == turn
        _, figures = task.loss(pair, step, step_generator(0, task.draws(step)))
        alone, _ = plain.loss(pair.generator, turn, step_generator(0, turn))
        assert figures["fidelity"] == alone.item()
    drawn = [task.draws(step) for step in range(6 * turns)]
    assert len(set(drawn)) == len(drawn)
