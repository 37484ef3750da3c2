"""Fixtures that the tests of the apps and of the studies share; they import what they need when they are asked for."""

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A model folder: random weights, none of them zero, in the format of the shipped one."""
    import torch

    from bdiff_core import CausalVAE, ChunkDiT, ModelConfig, VAEConfig, save_transformer, save_vae

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = ChunkDiT(ModelConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=64, text_dim=384, text_length=32))
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    save_transformer(model, folder / "transformer")
    widths = {"encoder_widths": (8, 8), "decoder_widths": (8, 8, 8)}
    save_vae(CausalVAE(VAEConfig(**widths, encoder_blocks=(1, 1), decoder_blocks=(1, 1, 1))), folder)
    return folder


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs `bdiff` in an empty folder."""
    from bdiff.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture
def assert_alike():
    """Checks that all that was told then is told now, under the same names; those left out may differ."""

    def check(new, old, where="figures", *, but=()):
        if isinstance(old, dict):
            assert old.keys() <= new.keys(), f"{where} lost {old.keys() - new.keys()}"
            for name in old.keys() - set(but):
                check(new[name], old[name], f"{where}.{name}", but=but)
        elif isinstance(old, list):
            assert len(new) == len(old), where
            for number, (one, other) in enumerate(zip(new, old, strict=True)):
                check(one, other, f"{where}[{number}]", but=but)
        else:
            expected = pytest.approx(old, rel=1e-9) if isinstance(old, float) else old
            assert new == expected, where

    return check


@pytest.fixture
def assert_lines_are_kept():
    """Checks that no line of a folder was made again, under its name or another."""

    def check(new, old):
        lines = {file.name: file.read_bytes() for file in old.glob("*.jsonl")}
        assert {file.name: file.read_bytes() for file in new.glob("*.jsonl")} == lines

    return check
