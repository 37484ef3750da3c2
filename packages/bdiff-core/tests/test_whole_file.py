"""Files appear whole or not at all, with the mode that the umask says."""

import os
import resource
import stat
from contextlib import contextmanager

import pytest
import torch
from safetensors import SafetensorError

from bdiff_core import CausalVAE, VAEConfig, save_transformer, save_vae
from bdiff_core.files import named_errors, whole_file, write_tensors

SMALL = VAEConfig(
    latent_channels=3, encoder_widths=(4, 6), encoder_blocks=(1, 1), decoder_widths=(6, 5, 4), decoder_blocks=(1, 1, 1)
)


@pytest.fixture
def umask():
    """Sets the umask, and puts it back."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@contextmanager
def full_disk(size):
    """Files end after so many bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o027, 0o640)])
def test_every_file_has_the_mode_that_the_umask_says(config, random_model, tmp_path, umask, mask, mode):
    umask(mask)
    model = random_model(config)
    save_transformer(model, tmp_path / "one")
    save_transformer(model, tmp_path / "many", format="wan", max_file_bytes=9999)
    save_transformer(model, tmp_path / "model.pt", format="pt")
    save_vae(CausalVAE(SMALL), tmp_path / "vae")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 6
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {mode}


def saving(name, random_model, config):
    model = random_model(config)
    return {
        "folder": lambda path: save_transformer(model, path / "out"),
        "shards": lambda path: save_transformer(model, path / "out", format="diffusers", max_file_bytes=30_000),
        "pickle": lambda path: save_transformer(model, path / "out.pt", format="pt"),
        "vae": lambda path: save_vae(CausalVAE(SMALL), path),
    }[name]


@pytest.mark.parametrize("name", ["folder", "shards", "pickle", "vae"])
@pytest.mark.parametrize("room", [0, 20_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(config, random_model, tmp_path, name, room):
    save = saving(name, random_model, config)
    with pytest.raises(OSError, match="File too large") as caught, full_disk(room):
        save(tmp_path)
    assert os.path.basename(caught.value.filename).endswith((".safetensors", ".pt"))
    assert "saving" not in caught.value.filename
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["folder", "pickle", "vae"])
def test_a_full_disk_leaves_what_was_there(config, random_model, tmp_path, name):
    save = saving(name, random_model, config)
    save(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(OSError, match="File too large"), full_disk(5000):
        save(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nowhere/x\.safetensors"):
        write_tensors({"a": torch.ones(1)}, tmp_path / "nowhere" / "x.safetensors", metadata={})


def test_an_interruption_leaves_nothing(tmp_path):
    def stopped():
        with whole_file(tmp_path / "x") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["I/O error: No space left (os error 28)", "IoError(Os { code: 28, kind: StorageFull })"]
)
def test_every_safetensors_says_that_the_disk_is_full(tmp_path, words):
    def write():
        with named_errors(tmp_path / "x.safetensors"):
            raise SafetensorError(f"Error while serializing: {words}")

    with pytest.raises(OSError, match=r"No space left on device: .*x\.safetensors") as caught:
        write()
    assert caught.value.errno == 28


def test_other_errors_pass(tmp_path):
    def write(error):
        with named_errors(tmp_path / "x"):
            raise error

    for error in (SafetensorError("no tensors"), RuntimeError("out of memory")):
        with pytest.raises(type(error), match=str(error)):
            write(error)
