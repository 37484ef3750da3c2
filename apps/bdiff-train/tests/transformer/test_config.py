"""Settings of a training that do not fit are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from bdiff_train.transformer import RECIPES, BatchConfig, DistillationConfig, Files

FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"self_forcing": DistillationConfig(), "start_from": None}, "distillation needs start_from"),
        ({"fidelity_weight": 0.0}, "expected at least 0 beside Self Forcing, and 1 without"),
        ({"batch": BatchConfig(estimated_passes=0)}, "estimated_passes is 0; expected at least 1"),
        ({"batch": BatchConfig(tint=-0.1)}, "tint is -0.1; expected a number from 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPES["default"](FILES), **changes)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="policy is 'ring'; expected one of semantic, rolling"):
        replace(RECIPES["default"](FILES), policy="ring")
