"""The average of weights follows its closed form."""

import pytest
from torch import nn

from bdiff_train.engine.ema import WeightAverage


def test_averages_follow_their_closed_form():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 3.0, -2.0]):
        nn.init.constant_(model.weight, value)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    average.swap(model)
    assert model.weight.item() == pytest.approx(expected)
    average.swap(model)
    assert model.weight.item() == -2
    average.copy_to(model)
    assert model.weight.item() == pytest.approx(expected)
