import json
import math

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from bdiff_core.vae import CausalVAE, VAEConfig, load_vae, save_vae

SMALL = VAEConfig(
    latent_channels=3,
    encoder_widths=(6, 8),
    encoder_blocks=(1, 2),
    decoder_widths=(8, 6, 4),
    decoder_blocks=(2, 1, 1),
)


def random_vae(config=SMALL, seed=0):
    """An autoencoder in which no parameter is zero, so that every path carries something."""
    vae = CausalVAE(config)
    generator = torch.Generator().manual_seed(seed)
    for p in vae.parameters():
        scale = p[0].numel() ** -0.5 if p.ndim > 1 else 0.3
        p.data = scale * torch.randn(p.shape, generator=generator)
    vae.set_latent_statistics(
        torch.linspace(-1, 1, config.latent_channels), torch.linspace(0.5, 2, config.latent_channels)
    )
    return vae.eval()


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vae():
    return random_vae()


splits = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@settings(max_examples=12, deadline=None)
@given(split=splits, seed=st.integers(0, 99))
@torch.no_grad()
def test_streaming_decode_equals_whole_decode(split, seed):
    vae = random_vae()
    latents = noise(2, 3, sum(split), 2, 3, seed=seed)
    whole, _ = vae.pixels(latents)
    state, parts = None, []
    for chunk in latents.split(split, dim=2):
        frames, state = vae.pixels(chunk, state)
        parts.append(frames)
    assert [part.shape[2] for part in parts] == [4 * n - 3 * (i == 0) for i, n in enumerate(split)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=1e-5)


@settings(max_examples=12, deadline=None)
@given(split=splits, seed=st.integers(0, 99))
@torch.no_grad()
def test_streaming_encode_equals_whole_encode(split, seed):
    vae = random_vae()
    frames = noise(2, 3, 4 * sum(split) - 3, 16, 8, seed=seed)
    whole, _ = vae.encode(frames)
    state, parts = None, []
    for chunk in frames.split([4 * n - 3 * (i == 0) for i, n in enumerate(split)], dim=2):
        latents, state = vae.encode(chunk, state)
        parts.append(latents)
    assert [part.shape[2] for part in parts] == split
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", [1, 2, 4])
@torch.no_grad()
def test_decoding_is_causal(vae, changed):
    latents = noise(1, 3, 6, 2, 2)
    other = latents.clone()
    other[:, :, changed] += 1
    before, after = vae.pixels(latents)[0], vae.pixels(other)[0]
    first = 4 * changed - 3
    torch.testing.assert_close(before[:, :, :first], after[:, :, :first], atol=1e-6, rtol=1e-6)
    assert (before[:, :, first : first + 4] - after[:, :, first : first + 4]).abs().max() > 1e-3
    assert (before[:, :, first + 4 : first + 8] - after[:, :, first + 4 : first + 8]).abs().max() > 1e-4


@pytest.mark.parametrize("changed", [1, 4, 5, 16])
@torch.no_grad()
def test_encoding_is_causal_and_starts_groups_after_the_first_frame(vae, changed):
    frames = noise(1, 3, 17, 16, 16)
    other = frames.clone()
    other[:, :, changed] += 1
    difference = (vae.encode(frames)[0] - vae.encode(other)[0]).abs().amax(dim=(0, 1, 3, 4))
    group = (changed + 3) // 4
    assert difference[:group].max() < 1e-6
    assert difference[group] > 1e-3


@torch.no_grad()
def test_a_still_video_of_any_length_begins_like_its_first_frame(vae):
    frame = noise(1, 3, 1, 16, 16)
    alone, _ = vae.encode(frame)
    still, _ = vae.encode(frame.expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(still, alone.expand_as(still), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_videos_of_a_batch_do_not_mix(vae):
    latents = noise(3, 3, 4, 2, 2)
    alone = torch.cat([vae.pixels(one)[0] for one in latents.split(1)])
    torch.testing.assert_close(vae.pixels(latents)[0], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_statistics_are_taken_off_and_put_back(vae):
    frames = noise(1, 3, 5, 16, 16)
    mean, _, _ = vae.posterior(frames)
    latents, _ = vae.encode(frames)
    expected = (mean - vae.latent_mean.view(1, -1, 1, 1, 1)) / vae.latent_std.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(vae.decode(latents)[0], vae.pixels(mean)[0].clamp(-1, 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_decoded_pixels_stay_in_range(vae):
    frames, _ = vae.decode(50 * noise(1, 3, 2, 2, 2))
    assert frames.min() == -1
    assert frames.max() == 1


@torch.no_grad()
def test_principal_components_leave_the_least_error_a_linear_code_can():
    frames = noise(16, 3, 1, 16, 16)
    fresh = CausalVAE(SMALL)
    fresh.start_from_principal_components(frames)
    mean, log_variance, _ = fresh.posterior(frames)
    patches = rearrange(frames, "b c 1 (h p) (w q) -> (b h w) (c p q)", p=8, q=8)
    singular = torch.linalg.svdvals(patches - patches.mean(0))
    least = singular[3:].square().sum() / patches.numel()
    torch.testing.assert_close((fresh.pixels(mean)[0] - frames).square().mean(), least, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(mean.std(dim=(0, 2, 3, 4)), torch.ones(3), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(log_variance, torch.full_like(log_variance, 2 * math.log(0.08)))


def test_every_parameter_learns():
    vae = random_vae().train()
    mean, log_variance, _ = vae.posterior(noise(1, 3, 9, 16, 16))
    frames, _ = vae.pixels(mean + log_variance)
    frames.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in vae.parameters())


def test_the_default_is_small():
    vae = CausalVAE(VAEConfig())
    assert sum(p.numel() for p in vae.parameters()) < 2_500_000
    assert (vae.config.temporal_stride, vae.config.spatial_stride) == (4, 8)


@pytest.mark.parametrize(("directory", "suffix"), [(True, ""), (False, "weights.safetensors")])
@torch.no_grad()
def test_saving_and_loading_give_back_the_model(vae, tmp_path, directory, suffix):
    path = tmp_path / "model" if directory else tmp_path / suffix
    written = save_vae(vae, path)
    loaded = load_vae(path)
    assert loaded.config == vae.config
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), loaded.state_dict().values(), strict=True))
    assert [p.name for p in written.parent.iterdir()] == [written.name]


@torch.no_grad()
def test_half_precision_storage_halves_the_file_and_keeps_the_numbers(vae, tmp_path):
    full = save_vae(vae, tmp_path / "full.safetensors").stat().st_size
    half = save_vae(vae, tmp_path / "half.safetensors", dtype=torch.float16).stat().st_size
    assert half < 0.75 * full
    loaded = load_vae(tmp_path / "half.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.latent_std, vae.latent_std, atol=0, rtol=0)
    latents = noise(1, 3, 2, 2, 2)
    torch.testing.assert_close(loaded.decode(latents)[0], vae.decode(latents)[0], atol=1e-2, rtol=1e-2)


def test_loading_casts_to_the_asked_type(vae, tmp_path):
    save_vae(vae, tmp_path)
    assert {t.dtype for t in load_vae(tmp_path, dtype=torch.float64).state_dict().values()} == {torch.float64}


def test_a_failed_save_leaves_the_old_file(vae, tmp_path, monkeypatch):
    path = save_vae(vae, tmp_path)
    before = path.read_bytes()

    def fails(tensors, file, **_options):
        file.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr("bdiff_core.files.whole.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        save_vae(vae, tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_pickle_is_no_autoencoder(vae, tmp_path):
    torch.save(vae.state_dict(), tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match=r"vae\.safetensors is not a readable .*: it is a pickle, as torch saves them"):
        load_vae(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_is_one_line(vae, tmp_path, damage):
    path = save_vae(vae, tmp_path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-100], "noise": b"\xff" * 300, "empty": b""}[damage])
    with pytest.raises(ValueError, match="not a readable safetensors file") as caught:
        load_vae(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="holds no `CausalVAE`"):
        load_vae(path)


@pytest.mark.parametrize("config", ["", "[]", '{"depth": 3}'])
def test_a_file_with_a_foreign_config_is_refused(tmp_path, config):
    path = tmp_path / "vae.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "bdiff-vae", "config": config})
    with pytest.raises(ValueError, match="holds no valid VAEConfig"):
        load_vae(path)


def test_weights_of_another_size_are_refused(vae, tmp_path):
    config = {field: getattr(SMALL, field) for field in SMALL.__dataclass_fields__} | {"latent_channels": 4}
    tensors = {name: t.clone() for name, t in vae.state_dict().items()}
    save_file(tensors, tmp_path / "vae.safetensors", metadata={"format": "bdiff-vae", "config": json.dumps(config)})
    with pytest.raises(ValueError, match="do not fit the config"):
        load_vae(tmp_path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected vae\.safetensors, as `bdiff train vae` writes it"):
        load_vae(tmp_path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 4, 16, 16), r"starts with 4n - 3 frames .* got 4"),
        ((1, 3, 5, 12, 16), r"frames are 12x16; both sides must be multiples of 8"),
    ],
)
def test_frames_that_do_not_fit_are_refused(vae, shape, message):
    with pytest.raises(ValueError, match=message):
        vae.encode(torch.zeros(shape))


@torch.no_grad()
def test_later_frames_and_foreign_states_are_checked(vae):
    _, state = vae.encode(torch.zeros(1, 3, 5, 16, 16))
    with pytest.raises(ValueError, match=r"goes on with 4n frames .* got 5"):
        vae.encode(torch.zeros(1, 3, 5, 16, 16), state)
    with pytest.raises(ValueError, match="expected 2 tensors for a batch of 2"):
        vae.encode(torch.zeros(2, 3, 4, 16, 16), state)
    with pytest.raises(ValueError, match="pass what the call before returned"):
        vae.decode(torch.zeros(1, 3, 1, 2, 2), state[:1])


def test_latents_that_do_not_fit_are_refused(vae):
    with pytest.raises(ValueError, match=r"expected \[b 3 t h w\]"):
        vae.decode(torch.zeros(1, 4, 1, 2, 2))


def test_statistics_must_be_positive():
    with pytest.raises(ValueError, match="std must be positive"):
        CausalVAE(SMALL).set_latent_statistics(torch.zeros(3), torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_channels": 0}, "latent_channels is 0"),
        ({"encoder_widths": (4, 0)}, "expected 2 positive numbers"),
        ({"decoder_blocks": (1, 1, -1)}, "expected 3 numbers of at least 0"),
    ],
)
def test_configs_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig(**change)
