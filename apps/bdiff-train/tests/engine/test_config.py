"""Settings of a run: the learning rate over its steps, and settings that make no sense."""

import pytest

from bdiff_train.engine import RunConfig


@pytest.mark.parametrize(
    ("step", "progress", "factor"),
    [(0, 0.0, 0.1), (4, 0.0, 0.5), (9, 0.0, 1.0), (50, 0.49, 1.0), (50, 0.5, 0.5), (90, 0.9, 0.25), (4, 0.9, 0.125)],
)
def test_the_learning_rate_warms_up_and_falls_in_steps(tmp_path, step, progress, factor):
    config = RunConfig(out=tmp_path, max_steps=100, warmup_steps=10, decay=((0.5, 0.5), (0.8, 0.25)))
    assert config.rate_factor(step, progress) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "a run needs an end"),
        ({"max_steps": 0}, "must be positive"),
        ({"max_steps": 1, "learning_rate": 0.0}, "learning_rate 0.0 must be positive"),
        ({"max_steps": 1, "decay": ((0.5, 1.0), (0.2, 0.5))}, "pairs rising"),
    ],
)
def test_runs_that_make_no_sense_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(out=tmp_path, **changes)
