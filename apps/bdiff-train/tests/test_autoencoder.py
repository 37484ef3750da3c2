"""Training of the autoencoder: it goes on exactly, and its latents are normalised."""

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import storyworld
from bdiff_core import CausalVAE, load_vae
from bdiff_core.vae import VAEConfig
from bdiff_train import autoencoder as training
from bdiff_train.autoencoder import VAETrainConfig, draw_clips, train_vae
from bdiff_train.data import HELD_OUT, StoryPool
from bdiff_train.engine import RunConfig, step_generator
from bdiff_train.engine import loop as run

SMALL = VAEConfig(
    latent_channels=4, encoder_widths=(8, 8), encoder_blocks=(1, 1), decoder_widths=(8, 8, 8), decoder_blocks=(1, 1, 1)
)


@pytest.fixture
def no_curves(monkeypatch):
    """Drawing excerpts a second; one test below looks at what is drawn."""
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


def test_clips_of_a_step_are_the_same_in_any_order(tmp_path, moving_shapes):
    config = small_config(tmp_path)
    forward = [draw_clips(StoryPool(2), config, step_generator(0, step)) for step in range(3)]
    pool = StoryPool(2)
    backward = [draw_clips(pool, config, step_generator(0, step)) for step in reversed(range(3))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert forward[0].shape == (2, 3, 5, 64, 64)
    assert forward[0].abs().max() <= 1


def test_clips_and_evaluations_are_of_all_kinds(tmp_path, moving_shapes, no_curves, monkeypatch):
    seen, render = set(), storyworld.render

    def recorded(seed, num_chunks, *, take, **rest):
        seen.add((take, seed))
        return render(seed, num_chunks, take=take, **rest)

    monkeypatch.setattr(storyworld, "render", recorded)
    kinds = ("story", "place", "walk")
    train_vae(small_config(tmp_path, takes=kinds, richness=2, num_stories=2, max_steps=12))
    held_out = (HELD_OUT, HELD_OUT + 1)
    assert seen == {(kind, seed) for kind in kinds for seed in (0, 1, *held_out)}


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
    torch.testing.assert_close(training.stream(vae, frames, [17, 20, 20]), whole, atol=1e-5, rtol=1e-5)
    expected = 10 * math.log10(4 / (whole - frames).square().mean().item())
    assert training.story_psnr(vae, pool, [HELD_OUT]).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_frames": 16}, "clip_frames is 16"),
        ({"clip_frames": 41}, "at most 37"),
        ({"clip_frames": 65, "latent_frames": 8}, "at most 61"),
        ({"latent_frames": 1}, "latent_frames is 1; expected at least 2"),
        ({"num_stories": 0}, "num_stories is 0"),
        ({"takes": ("story", "walk")}, "richness is 1; takes of kind walk have richness 2: give --richness 2"),
        (
            {"takes": ("walk",) * 2, "richness": 2},
            "takes is 'walk,walk'; expected some of story, place, walk, each once",
        ),
        ({"takes": ("story", "place"), "richness": 2, "num_stories": HELD_OUT}, "expected 1 to 500000"),
        ({"num_stories": HELD_OUT + 1}, "then come held-out ones"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(tmp_path, **changes)


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
