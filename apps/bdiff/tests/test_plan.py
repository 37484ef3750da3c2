"""What is said of a run beforehand, against the run."""

import json

import pytest
import torch

from bdiff.cli.main import main
from bdiff.run import SampleConfig, generate_chunks, load_run, make_spec, plan_run
from bdiff.run import plan as planning
from bdiff.run import plan_lines as lines
from bdiff.run import plan_refusal as refusal
from bdiff_core import Storyboard

PROMPTS = [f"a fox {where}" for where in ("at home", "at sea", "in a wood", "at sea", "at home", "in a wood")]


@pytest.fixture(scope="module")
def config(tiny_model, tmp_path_factory):
    return SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS),
        out=tmp_path_factory.mktemp("run"),
        model=tiny_model,
        settings={"steps": 1},
    )


@pytest.mark.parametrize("policy", ["rolling", "full"])
def test_a_plan_says_what_the_run_then_takes(config, policy):

    spec = make_spec(config.changed(policy=policy))
    plan = plan_run(spec, memory_limit=10**9)
    parts = load_run(spec, config.out)
    chunks = list(generate_chunks(parts))
    assert plan.parameters == sum(p.numel() for p in parts.model.parameters())
    assert plan.chunks == len(chunks)
    assert plan.seconds == pytest.approx(sum(chunk.frames.shape[2] for chunk in chunks) / parts.sampling.fps)
    last = chunks[-1].recall
    assert plan.context_tokens == sum(last.spans[0])
    held = sum(tensor.nbytes for layer in last.layers for tensor in (layer.key, layer.value))
    assert plan.kv_bytes_per_chunk * len(last.chunks) == held
    assert plan.memory["transformer"] == sum(p.nbytes for p in parts.model.parameters())


def test_a_memory_that_shows_nothing_has_no_context(config):
    spec = make_spec(config.changed(policy="none"))
    assert plan_run(spec, memory_limit=10**9).context_tokens == 0
    assert all(not chunk.recall.layers for chunk in generate_chunks(load_run(spec, config.out)))


def test_a_kept_share_and_a_memory_limit_bound_the_past(config):
    spec = make_spec(config)
    whole, half = (plan_run(spec, memory_limit=10**9, share=share) for share in (1.0, 0.5))
    assert half.kept_bytes_per_chunk * 2 == whole.kept_bytes_per_chunk == whole.kv_bytes_per_chunk
    assert half.flops_per_chunk < whole.flops_per_chunk
    assert plan_run(spec, memory_limit=1000).memory["memory of the past"] == 1000
    with pytest.raises(ValueError, match="share is 2"):
        plan_run(spec, memory_limit=0, share=2.0)


def test_the_least_time_is_work_over_rate(config):
    plan = plan_run(make_spec(config), memory_limit=0)
    assert plan.flops_per_second > 1e8
    assert plan.floor_seconds == pytest.approx(len(PROMPTS) * plan.flops_per_chunk / plan.flops_per_second)
    assert any("at the least" in line for line in lines(plan))


def test_what_will_not_fit_is_refused_before_anything_is_loaded(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planning, "free_bytes", lambda device: 10**8)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)
    for command in (["sample", "--out", str(tmp_path / "run")], ["plan"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--model", str(tiny_model), "--prompt", "a fox"])
        error = capsys.readouterr().err
        assert (stopped.value.code, error.count("\n")) == (2, 1)
        assert "100 MB are free" in error
    assert not (tmp_path / "run").exists()


def test_the_command(tiny_model, capsys):
    arguments = ["plan", "--model", str(tiny_model), "--prompt", "a fox", "--prompt", "a cat"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert (stopped.value.code, plan["chunks"], plan["fits"]) == (0, 2, True)
    assert plan["peak"] == sum(plan["memory"].values())


def test_offload_takes_the_largest_phase_and_not_the_sum(config):

    together, apart = (plan_run(make_spec(config.changed(offload=flag)), memory_limit=0) for flag in (False, True))
    assert {"transformer", "text encoder", "autoencoder"} < set(together.memory)
    assert set(apart.memory) == {"text encoder", "program"}  # the tiny model itself is far smaller
    assert apart.memory.items() < together.memory.items()
    sampling, text = {"transformer": 5}, {"text encoder": 7, "autoencoder": 1, "image encoder": 3}
    assert set(planning._peak(sampling, text, offload=True)) == {"text encoder", "program"}
    assert set(planning._peak({"transformer": 7}, text, offload=True)) == {"transformer", "autoencoder", "program"}


def test_a_plan_that_fits_is_not_refused(config):
    assert refusal(plan_run(make_spec(config), memory_limit=0)) is None
