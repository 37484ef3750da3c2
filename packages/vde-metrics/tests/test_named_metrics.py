import pytest

from vde_metrics import Clarity, Motion, check_metric_models, check_metric_names, make_metric
from vde_metrics.named_metrics import DEFAULTS, PAPER, RELEASED, USERS, WITHOUT_MODELS


def test_a_metric_is_made_by_its_name():
    assert make_metric("clarity", {}) == Clarity()
    assert make_metric("motion-smoothness", {}) == Motion(form="smoothness")
    with pytest.raises(ValueError, match="'sharpness' is not a metric; expected one of clarity, motion"):
        make_metric("sharpness", {})


def test_metrics_without_models_need_none():
    for name in WITHOUT_MODELS:
        assert make_metric(name, {}).protocol == "paper"


@pytest.mark.parametrize(("name", "said"), [("aesthetic", "no aesthetic predictor"), ("dynamic-degree", "frame rate")])
def test_what_a_metric_needs_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        make_metric(name, {})


def test_names_belong_to_a_protocol():
    check_metric_names(PAPER, "paper")
    check_metric_names(RELEASED, "released")
    with pytest.raises(ValueError, match="clarity is not a metric of the protocol released; expected one of subject-"):
        check_metric_names(["clarity"], "released")


def test_weights_need_a_metric_that_uses_them():
    for role, users in USERS.items():
        check_metric_models({role: "weights"}, [users[-1]])
    with pytest.raises(ValueError, match=r"--model laion=.*: none of clarity uses it; it is for aesthetic and"):
        check_metric_models({"laion": "weights"}, ["clarity"])
    with pytest.raises(ValueError, match="none of clarity, motion uses it"):
        check_metric_models({"raft": "weights"}, iter(DEFAULTS["paper"]))
