"""Which attention kernel is used, and what is said where it cannot be."""

import dataclasses

import pytest
import torch

from bdiff_core.attention import BACKENDS, backends, choose_attention
from bdiff_core.attention.backends import backend_for

CPU = torch.device("cpu")


@pytest.mark.parametrize("version", [(2, 6), (2, 12)])
def test_flex_on_the_cpu_is_refused_with_a_torch_that_does_not_compute_it(monkeypatch, version):
    monkeypatch.setattr(backends, "_torch_version", lambda: version)
    this = ".".join(map(str, version))
    with pytest.raises(
        ValueError, match=f"attention 'flex' needs torch 2.13 on cpu, this is {this}: upgrade it, or take"
    ):
        choose_attention("flex", device=CPU, dtype=torch.float32)
    assert choose_attention("sdpa", device=CPU, dtype=torch.float32) == "sdpa"


def test_a_model_attends_by_sdpa_unless_told_otherwise(config, random_model):
    model = random_model(config)
    assert model.attention == "sdpa"
    model.attention = "auto"
    assert model.attention == "sdpa"  # what is best on a CPU


def test_auto_takes_the_best_kernel_that_lacks_nothing(monkeypatch):
    anywhere = {"devices": None, "dtypes": None, "package": "torch"}
    for name in ("xformers", "flash"):
        monkeypatch.setitem(BACKENDS, name, dataclasses.replace(BACKENDS[name], **anywhere))
        assert choose_attention("auto", device=CPU, dtype=torch.bfloat16) == name
        assert choose_attention("auto", device=CPU, dtype=torch.float32) == "sdpa"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("falsh", r"attention is 'falsh'; expected one of auto, sdpa, flex, xformers, flash$"),
        ("xformers", r"attention 'xformers' runs on cuda and not on cpu: compute there, or take 'sdpa'$"),
        ("flash", "attention 'flash' runs on cuda and not on cpu"),
    ],
)
def test_a_kernel_that_cannot_run_is_refused_when_it_is_set(config, random_model, name, message):
    model = random_model(config)
    with pytest.raises(ValueError, match=message):
        model.attention = name
    assert model.attention == "sdpa"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"package": "no_such_package", "install": "pip install it"},
            r"'flash' does not work here, No module named 'no_such_package': pip install it, or take 'sdpa'$",
        ),
        ({"compilers": {"cpu": ("no-such-compiler",)}}, "needs no-such-compiler to compile its kernels on cpu"),
        (
            {"dtypes": (torch.float16, torch.bfloat16)},
            "computes in float16 or bfloat16 and not in float32: compute in that",
        ),
    ],
)
def test_what_a_kernel_lacks_is_named(monkeypatch, change, message):
    nothing = {"devices": None, "dtypes": None, "package": None}
    monkeypatch.setitem(BACKENDS, "flash", dataclasses.replace(BACKENDS["flash"], **nothing | change))
    with pytest.raises(ValueError, match=message):
        choose_attention("flash", device=CPU, dtype=torch.float32)


def test_a_model_that_left_its_kernel_behind_is_an_error():
    with pytest.raises(ValueError, match="'flash' runs on cuda and not on cpu"):
        backend_for("flash", device=CPU, dtype=torch.bfloat16)
