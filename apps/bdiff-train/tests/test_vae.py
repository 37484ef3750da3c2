import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from bdiff.run import allocator as heap
from bdiff_core.vae import CausalVAE, VAEConfig, load_vae
from bdiff_train import autoencoder as training
from bdiff_train.autoencoder import VAETrainConfig, draw_clips, train_vae
from bdiff_train.data import story_pool
from bdiff_train.data.story_pool import HELD_OUT, StoryPool
from bdiff_train.engine import loop as run
from bdiff_train.engine.config import RunConfig, Task
from bdiff_train.engine.ema import Average
from bdiff_train.engine.log import TrainingLog, plot_log
from bdiff_train.engine.loop import fit, step_generator
from bdiff_train.engine.muon import Muon, orthogonalize

SMALL = VAEConfig(
    latent_channels=4, encoder_widths=(8, 8), encoder_blocks=(1, 1), decoder_widths=(8, 8, 8), decoder_blocks=(1, 1, 1)
)


@pytest.fixture
def moving_shapes(monkeypatch):
    """Stands in for the story renderer: a square of random colour that walks over random ground."""

    def render(seed, num_chunks, *, richness):
        generator = torch.Generator().manual_seed(seed)
        ground, square = 2 * torch.rand(2, 3, 1, 1, 1, generator=generator) - 1
        length = 17 + 20 * (num_chunks - 1)
        frames = ground.expand(3, length, 64, 64).clone()
        for t in range(length):
            frames[:, t, 20:40, t % 48 : t % 48 + 16] = square[:, 0]
        return SimpleNamespace(frames=frames)

    monkeypatch.setattr(story_pool.storyworld, "render", render)


@pytest.fixture
def no_curves(monkeypatch):
    """Drawing takes a second; one test below looks at what is drawn."""
    monkeypatch.setattr(run, "plot_log", lambda log, target: None)


def small_config(out, **changes):
    return VAETrainConfig(
        out=out,
        model=SMALL,
        **{
            "minutes": math.inf,
            "max_steps": 6,
            "batch_size": 2,
            "clip_frames": 5,
            "num_stories": 3,
            "chunks_per_story": 2,
            "measured_chunks": 2,
            "evaluate_stories": 1,
            "final_stories": 2,
            "statistics_stories": 2,
            "principal_stories": 2,
            **changes,
        },
    )


def quadratic(model, step, generator):
    """A loss that needs its draws: a resumed run must see the ones it would have seen."""
    target = torch.randn(4, 3, generator=generator)
    return (model(torch.randn(4, 5, generator=generator)) - target).square().mean(), {"drawn": target.sum().item()}


def fit_linear(config, *, loss=quadratic, orthogonal=False, **rest):
    torch.manual_seed(1)
    model = nn.Linear(5, 3)
    task = Task(loss=loss, orthogonal=[model.weight] if orthogonal else [], **rest)
    result = fit(model, config, task)
    return model, result


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_six_steps_are_three_a_kill_and_three_more_bit_for_bit(tmp_path, orthogonal, killed_at):
    config = RunConfig(out=tmp_path / "whole", max_steps=6, checkpoint_minutes=0, learning_rate=0.1, log_steps=2)
    whole, _ = fit_linear(config, orthogonal=orthogonal)

    def dies(model, step, generator):
        if step == killed_at:
            raise KeyboardInterrupt
        return quadratic(model, step, generator)

    parts = dataclasses.replace(config, out=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        fit_linear(parts, loss=dies, orthogonal=orthogonal)
    resumed, result = fit_linear(parts, orthogonal=orthogonal)
    assert result.steps == 6
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    saved = [torch.load(path / "checkpoint.pt", weights_only=True) for path in (config.out, parts.out)]
    assert torch.equal(saved[0]["model"]["weight"], saved[1]["model"]["weight"])


def test_a_killed_autoencoder_run_goes_on_exactly(tmp_path, moving_shapes, no_curves, monkeypatch):
    train_vae(small_config(tmp_path / "whole"))
    every_step = RunConfig

    def checkpointing(**settings):
        return every_step(**settings, checkpoint_minutes=0)

    monkeypatch.setattr(training, "RunConfig", checkpointing)
    real = training.reconstruction_loss
    calls = []

    def dies(*args, **rest):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **rest)

    monkeypatch.setattr(training, "reconstruction_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        train_vae(small_config(tmp_path / "parts"))
    train_vae(small_config(tmp_path / "parts"))
    assert len(calls) == 7
    whole, parts = (load_vae(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


_KILLED = """
import sys, time, torch
from pathlib import Path
from bdiff_train.engine.loop import fit
from bdiff_train.engine.config import RunConfig, Task
torch.manual_seed(1)
def loss(model, step, generator):
    if step == 20:
        print("hanging", flush=True)
        time.sleep(600)
    target = torch.randn(4, 3, generator=generator)
    return (model(torch.randn(4, 5, generator=generator)) - target).square().mean(), {}
fit(torch.nn.Linear(5, 3), RunConfig(out=Path(sys.argv[1]), max_steps=40, checkpoint_minutes=0), Task(loss=loss))
"""


def test_forty_steps_are_twenty_a_sigkill_and_twenty_more(tmp_path):
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "parts")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "hanging\n"
        os.kill(process.pid, signal.SIGKILL)
    config = RunConfig(out=tmp_path / "parts", max_steps=40, checkpoint_minutes=0)
    assert torch.load(config.out / "checkpoint.pt", weights_only=True)["step"] == 20
    resumed, _ = fit_linear(config)
    whole, _ = fit_linear(dataclasses.replace(config, out=tmp_path / "whole"))
    assert torch.equal(resumed.weight, whole.weight)


def test_the_log_of_a_resumed_run_has_every_line_once(tmp_path):
    config = RunConfig(out=tmp_path, max_steps=4, checkpoint_minutes=math.inf, log_steps=1)
    fit_linear(config)
    longer = dataclasses.replace(config, max_steps=8)

    def dies(model, step, generator):
        if step == 6:
            raise KeyboardInterrupt
        return quadratic(model, step, generator)

    with pytest.raises(KeyboardInterrupt):
        fit_linear(longer, loss=dies)
    fit_linear(longer)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))


def test_a_finished_run_changes_nothing_more(tmp_path):
    config = RunConfig(out=tmp_path, max_steps=3)
    first, _ = fit_linear(config)
    again, result = fit_linear(config)
    assert result.steps == 3
    assert torch.equal(first.weight, again.weight)


def test_time_is_counted_over_resumed_parts(tmp_path):
    def sleeps(model, step, generator):
        time.sleep(0.02)
        return quadratic(model, step, generator)

    config = RunConfig(out=tmp_path, minutes=0.1 / 60)
    _, first = fit_linear(config, loss=sleeps)
    assert 0.1 <= first.seconds < 1
    _, second = fit_linear(dataclasses.replace(config, minutes=0.2 / 60), loss=sleeps)
    assert second.steps > first.steps
    assert second.seconds >= 0.2
    _, third = fit_linear(config, loss=sleeps)
    assert third.steps == second.steps


def test_draws_of_a_step_depend_on_seed_and_step_alone():
    draws = {(seed, step): torch.rand(4, generator=step_generator(seed, step)) for seed in (0, 1) for step in (0, 1)}
    assert torch.equal(draws[0, 1], torch.rand(4, generator=step_generator(0, 1)))
    values = torch.stack(list(draws.values()))
    assert len(values.unique(dim=0)) == 4


def test_clips_of_a_step_are_the_same_in_any_order(tmp_path, moving_shapes):
    config = small_config(tmp_path)
    forward = [draw_clips(StoryPool(2), config, step_generator(0, step)) for step in range(3)]
    pool = StoryPool(2)
    backward = [draw_clips(pool, config, step_generator(0, step)) for step in reversed(range(3))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert forward[0].shape == (2, 3, 5, 64, 64)
    assert forward[0].abs().max() <= 1


def test_a_pool_keeps_pictures_to_a_step_of_a_byte(moving_shapes):
    pool = StoryPool(2)
    truth = story_pool.storyworld.render(5, 2, richness=1).frames
    assert (pool.clips([5], [3], length=30)[0] - truth[:, 3:33]).abs().max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize(
    ("step", "progress", "factor"),
    [(0, 0.0, 0.1), (4, 0.0, 0.5), (9, 0.0, 1.0), (50, 0.49, 1.0), (50, 0.5, 0.5), (90, 0.9, 0.25), (4, 0.9, 0.125)],
)
def test_the_learning_rate_warms_up_and_falls_in_steps(tmp_path, step, progress, factor):
    config = RunConfig(out=tmp_path, max_steps=100, warmup_steps=10, decay=((0.5, 0.5), (0.8, 0.25)))
    assert config.rate_factor(step, progress) == pytest.approx(factor)


def test_averages_follow_their_closed_form():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, 0.5)
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


def test_steps_without_a_finite_loss_are_skipped(tmp_path, caplog):
    def sometimes(model, step, generator):
        loss, figures = quadratic(model, step, generator)
        return (loss * math.nan if step in (1, 3) else loss), figures

    with caplog.at_level(logging.WARNING):
        model, result = fit_linear(RunConfig(out=tmp_path, max_steps=5), loss=sometimes)
    assert result.steps == 5
    assert model.weight.isfinite().all()
    assert [record.getMessage().split(" has ")[0] for record in caplog.records] == ["step 1", "step 3"]


def test_a_run_without_any_finite_loss_gives_up(tmp_path):
    def never(model, step, generator):
        return model.weight.sum() * math.inf, {}

    with pytest.raises(FloatingPointError, match=r"in 20 steps up to step 19; lower the learning rate"):
        fit_linear(RunConfig(out=tmp_path, max_steps=50), loss=never)


def test_evaluations_see_the_average_and_training_goes_on_from_the_weights(tmp_path, no_curves):
    seen = []

    def evaluate(model):
        seen.append((model.weight.clone(), model.training))
        return {"score": float(len(seen))}

    config = RunConfig(out=tmp_path, max_steps=4, evaluate_minutes=0, learning_rate=0.1)
    plain, _ = fit_linear(dataclasses.replace(config, out=tmp_path / "plain"))
    watched, result = fit_linear(config, evaluate=evaluate)
    assert torch.equal(plain.weight, watched.weight)
    assert torch.equal(seen[-1][0], watched.weight)
    assert not seen[0][1]
    assert result.evaluation == {"score": 4.0}


def test_a_run_stops_when_it_is_good_enough(tmp_path, no_curves):
    config = RunConfig(out=tmp_path, max_steps=50, evaluate_minutes=0)
    scores = iter(range(50))
    _, result = fit_linear(config, evaluate=lambda model: {"score": next(scores)}, good_enough=lambda f: f["score"] > 2)
    assert result.steps == 4
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4


def test_steps_of_a_long_run_keep_all_their_digits(tmp_path):
    log = TrainingLog(tmp_path)
    log.write(1_234_567, 8_765_432.1, {"loss": 0.123456789})
    assert json.loads(log.path.read_text()) == {"step": 1_234_567, "seconds": 8_765_430.0, "loss": 0.123457}


def test_curves_are_drawn_from_a_log(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [{"step": 1, "seconds": 1, "loss": 2.0}, {"step": 2, "seconds": 2, "psnr_db": 20.0}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_log(log, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as curve:
        assert curve.width > 500


def test_the_losses_of_parts_that_take_turns_are_drawn_apart(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = {}, Axes.plot

    def note(self, x, y, **style):
        drawn[style["label"]] = (x, y)
        return plot(self, x, y, **style)

    monkeypatch.setattr(Axes, "plot", note)
    log = tmp_path / "log.jsonl"
    lines = [
        {"step": 2, "seconds": 1, "loss": 2.0, "model.loss": 3.0, "judge.loss": 1.0},
        {"step": 4, "seconds": 2, "loss": 1.0, "model.loss": 1.5, "judge.loss": 0.5},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_log(log, tmp_path / "curve.png")
    assert drawn == {"model.loss": ([2, 4], [3.0, 1.5]), "judge.loss": ([2, 4], [1.0, 0.5])}


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


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4)])
def test_orthogonalized_matrices_keep_their_directions_with_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalize(matrix) @ v.T
    kept = inner.diagonal()[s > 0.05 * s.max()]
    assert kept.min() > 0.6
    assert kept.max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4


def test_muon_steps_have_one_length_whatever_the_gradient():
    for scale in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
        optimizer = Muon([weight], 0.1)
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        singular = torch.linalg.svdvals(weight.detach().flatten(1))
        assert singular.max() == pytest.approx(0.1, rel=0.35)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="two or more axes"):
        Muon([nn.Parameter(torch.zeros(3))], 0.1)


def test_inner_weights_leave_out_what_touches_pixels_or_latents():
    vae = CausalVAE(SMALL)
    inner = {id(p) for p in training.inner_weights(vae)}
    left = {name for name, p in vae.named_parameters() if p.ndim > 1 and id(p) not in inner}
    ends = (f"encoder.{len(vae.encoder) - 1}", f"decoder.{len(vae.decoder) - 1}")
    expected = ("encoder.0", "decoder.0", "linear_encoder", "linear_decoder", *ends)
    assert left == {f"{name}.weight" for name in expected}


def test_training_writes_what_it_says_and_normalises_latents(tmp_path, moving_shapes):
    result = train_vae(small_config(tmp_path, max_steps=8))
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pt",
        "curve.png",
        "log.jsonl",
        "samples.png",
        "vae.safetensors",
    }
    assert result.steps == 8
    assert result.evaluation["psnr_db"] >= result.evaluation["least_psnr_db"] > 10
    vae = load_vae(tmp_path)
    pool = StoryPool(2)
    with torch.no_grad():
        latents = torch.cat([vae.encode(pool.clips([s], [0], length=37))[0] for s in (0, 1)])
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(4), atol=0.02, rtol=0)
    spread = latents.std((0, 2, 3, 4))
    assert spread.square().mean() == pytest.approx(1.0, abs=0.05)
    vae.set_latent_statistics(vae.latent_mean.clone(), vae.latent_std * spread)  # the code at unit variance
    torch.testing.assert_close(spread, training.channel_scales(vae, pool, range(3)), atol=0.03, rtol=0.03)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (12 * 128, 2 * 128)


def test_streams_measure_the_same_as_whole_videos(moving_shapes):
    torch.manual_seed(0)
    vae, pool = CausalVAE(SMALL).eval(), StoryPool(3)
    frames = pool.clips([HELD_OUT], [0], length=57)
    with torch.no_grad():
        latents, _ = vae.encode(frames)
        whole, _ = vae.decode(latents)
    torch.testing.assert_close(training.stream(vae, frames), whole, atol=1e-5, rtol=1e-5)
    expected = 10 * math.log10(4 / (whole - frames).square().mean().item())
    assert training.story_psnr(vae, pool, [HELD_OUT]).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_frames": 16}, "clip_frames is 16"),
        ({"clip_frames": 41}, "at most 37"),
        ({"num_stories": 0}, "num_stories is 0"),
        ({"num_stories": HELD_OUT + 1}, "then come held-out ones"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(tmp_path, **changes)


def test_keeping_freed_memory_is_harmless_elsewhere(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "plan9")
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: pytest.fail("called mallopt off Linux"))
    heap.keep_freed_memory()


def test_channels_that_move_more_pixels_get_more_variance():
    """A code whose first channel paints everything and whose others paint less and less."""

    class Painter:
        config = SMALL

        def encode(self, frames):
            return torch.zeros(1, 4, (frames.shape[2] + 3) // 4, 8, 8), None

        def decode(self, latents):
            gain = torch.tensor([8.0, 4.0, 2.0, 1.0])[:, None, None, None]
            return (gain * latents).sum(1, keepdim=True), None

    pool = SimpleNamespace(frames_per_story=37, clips=lambda seeds, starts, length: torch.zeros(1, 3, length, 64, 64))
    scales = training.channel_scales(Painter(), pool, range(3))
    assert scales.square().mean() == pytest.approx(1.0, abs=1e-5)
    # effect on pixels grows with the square of the gain, the scale with its fourth root
    torch.testing.assert_close(scales / scales[-1], torch.tensor([8.0, 4.0, 2.0, 1.0]) ** 0.5, rtol=0.05, atol=0)
