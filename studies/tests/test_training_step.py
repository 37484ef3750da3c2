"""The study of a training step: what it counts, and that its page shows what it measured."""

import json
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from bdiff_core import ChunkDiT, ModelConfig, save_transformer
from bdiff_train.engine import iteration_flops, orthogonalize
from studies.training_step.__main__ import command
from studies.training_step.profile_shares import kind_of, shares


def event(key, own, whole=None):
    return SimpleNamespace(key=key, self_cpu_time_total=own, cpu_time_total=own if whole is None else whole)


def test_a_profile_is_summed_by_phase_and_by_kind():
    events = [
        event("loss and its batch", 1.0, 4.0),
        event("aten::addmm", 3.0),
        event("autograd::engine::evaluate_function: MmBackward0", 0.0, 5.0),
        event("aten::mm", 5.0),
        event("Optimizer.step#Muon.step", 1.0, 1.0),
    ]
    found = shares(events)
    assert found["phases"] == {"loss and its batch": 0.4, "backward": 0.5, "Muon": 0.1}
    assert found["kinds"]["matrix products"] == 0.8
    assert sum(found["kinds"].values()) == pytest.approx(1.0)
    assert list(found["largest"].items())[:2] == [("aten::mm", 0.5), ("aten::addmm", 0.3)]


def test_kinds_go_by_name():
    assert kind_of("aten::_scaled_dot_product_flash_attention_for_cpu_backward") == "attention"
    assert kind_of("aten::native_layer_norm_backward") == "norms"
    assert kind_of("aten::copy_") == "copies and casts"
    assert kind_of("aten::mul") == "element by element, and the rest"


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_the_work_of_an_iteration_is_that_of_its_products(shape):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        orthogonalize(torch.randn(shape))
    assert counter.get_total_flops() == iteration_flops(shape)


@pytest.mark.parametrize("steps", ["--train-steps", "--steps"])  # the old spelling works for one version
def test_the_command_measures_a_model_and_writes_page_and_figures(tmp_path, steps):
    torch.manual_seed(0)
    model = ChunkDiT(
        ModelConfig(
            dim=24, num_layers=1, num_heads=2, ffn_dim=24, in_channels=4, out_channels=4, text_dim=6, text_length=3
        )
    )
    save_transformer(model, tmp_path / "model" / "transformer")
    threads = torch.get_num_threads()
    options = ["--model", tmp_path / "model", "--out", tmp_path / "out", steps, 2, "--warm-up", 1]
    done = CliRunner().invoke(command, list(map(str, options)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert torch.get_num_threads() == threads
    for run in figures["runs"].values():
        assert len(run["seconds"]) == 2
        assert 0 < run["hidden_flops"] < run["flops_a_step"]
        phases = run["profile"]["phases"]
        assert {"loss and its batch", "backward", "AdamW", "Muon"} == set(phases)
        assert sum(phases.values()) < 1.0
    page = (tmp_path / "out" / "page.md").read_text()
    assert page.startswith("# How near a training step")
    assert f"{figures['runs']['float32']['tokens_a_step']:,} tokens" in page
    assert "None" not in page
