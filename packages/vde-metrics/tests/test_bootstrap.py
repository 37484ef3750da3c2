import math

import numpy as np
import pytest

from vde_metrics.reports.bootstrap import Bootstrap


def test_the_interval_is_that_of_percentiles_of_resampled_means():
    values = [1.0, 2.0, 4.0, 8.0]
    random = np.random.default_rng(3)
    means = np.array(values)[random.integers(4, size=(500, 4))].mean(1)
    found = Bootstrap(confidence=0.9, draws=500, seed=3).mean(values)
    assert (found.mean, found.num_videos) == (3.75, 4)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), abs=1e-12)
    assert str(found) == f"3.7500 ({found.low:.4f} to {found.high:.4f})"


@pytest.mark.parametrize("values", [[2.0], [1.0, math.inf]])
def test_one_video_or_an_infinite_one_has_no_interval(values):
    found = Bootstrap(confidence=0.9, draws=10, seed=0).mean(values)
    assert (found.mean, found.low, found.high) == (sum(values) / len(values), None, None)
