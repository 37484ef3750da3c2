import hashlib
import json
import subprocess
import sys
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file

from bdiff.cli.main import cli
from bdiff_core import load_transformer
from bdiff_core.checkpoint import Format, NativeMode, open_checkpoint


def same(first, second):
    return all(torch.equal(p, second.state_dict()[name]) for name, p in first.state_dict().items())


def test_a_tour_through_all_formats_changes_nothing(run, tiny_model):
    before = tiny_model / "transformer"
    for format, target in (("diffusers", "a"), ("wan", "b"), ("pt", "c.pt"), ("bdiff", "d")):
        code, out, err = run("convert", before, target, "--format", format)
        assert (code, out) == (0, "")
        assert target in err
        before = target
        assert open_checkpoint(before).format == format
    assert load_transformer("d").config == load_transformer(tiny_model / "transformer").config
    assert same(load_transformer("d"), load_transformer(tiny_model / "transformer"))


def test_dtype_mode_loras_and_file_size_are_as_asked(run, tiny_model, tmp_path):
    source = tiny_model / "transformer"
    factors = {"lora_A": torch.ones(1, 32), "lora_B": torch.ones(32, 1)}
    save_file({f"blocks.0.attn1.to_q.{x}.weight": f for x, f in factors.items()}, tmp_path / "x.safetensors")
    options = ("--dtype", "float16", "--mode", "whole", "--lora", "x.safetensors@0.5", "--max-file-gb", "0.0001")
    assert run("convert", source, "out", *options)[0] == 0
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    plain, merged = load_transformer(source).state_dict(), load_transformer("out")
    assert merged.config.native_mode == "whole"
    plain["blocks.0.self_attention.qkv.weight"][:32] += 0.5
    assert all(torch.equal(p, plain[name].half()) for name, p in merged.state_dict().items())


def test_inspect_tells_what_it_is(run, tiny_model, tmp_path):
    model = load_transformer(tiny_model / "transformer")
    file = tiny_model / "transformer" / "model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    facts = json.loads(run("inspect", tiny_model, "--json")[1])
    assert facts["files"] == [{"name": "model.safetensors", "bytes": file.stat().st_size, "sha256": digest}]
    count = sum(p.numel() for p in model.parameters())
    assert facts["dtypes"] == {"float32": count}
    assert {**facts, "files": 0, "config": 0, "dtypes": 0, "path": 0} == {
        "path": 0, "format": "bdiff", "entry": None, "native_mode": "cached", "parameters": count, "dtypes": 0,
        "bytes": file.stat().st_size, "sha256": digest, "files": 0, "config": 0,
    }  # fmt: skip
    assert facts["config"]["dim"] == 32
    code, out, _ = run("inspect", tiny_model)
    assert code == 0
    for word in ("bdiff", "cached", f"{count:,}", "float32", digest, "dim 32", "patch_size 1x2x2"):
        assert word in out
    run("convert", tiny_model, "many", "--max-file-gb", "0.0001")
    facts = json.loads(run("inspect", "many", "--json")[1])
    joined = "".join(
        f"{hashlib.sha256((tmp_path / 'many' / f['name']).read_bytes()).hexdigest()}\n" for f in facts["files"]
    )
    assert facts["sha256"] == hashlib.sha256(joined.encode()).hexdigest()
    assert json.loads(run("inspect", "many", "--json", "--no-hash")[1])["sha256"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "nowhere"), "nowhere does not exist"),
        (("inspect", "."), "holds no transformer"),
        (("convert", "nowhere", "out"), "nowhere does not exist"),
        (("convert", "MODEL", "full"), "full holds something; name another target or say --overwrite"),
        (("convert", "MODEL", "full", "--format", "pt", "--overwrite"), "is a file that ends in .pt"),
        (("convert", "MODEL", "full/note", "--overwrite"), "full/note is a file; name another target"),
        (("convert", "MODEL", "x.pt", "--format", "wan"), "is a file that ends in .pt"),
        (("convert", "MODEL", "out", "--lora", "a@b"), "'b' is no number; expected PATH or PATH@STRENGTH"),
        (("convert", "MODEL", "out", "--entry", "generator"), "entry 'generator' is for .pt files"),
        (("convert", "MODEL", "out", "--dtype", "int8"), "'int8' is not one of"),
        (("convert", "MODEL", "out", "--max-file-gb", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, tiny_model, tmp_path, arguments, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    code, out, err = run(*(tiny_model if argument == "MODEL" else argument for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "note"]


def test_overwriting_is_said(run, tiny_model):
    assert run("convert", tiny_model, "out")[0] == 0
    assert run("convert", tiny_model, "out", "--dtype", "bfloat16", "--overwrite")[0] == 0
    assert open_checkpoint("out").dtypes.keys() == {torch.bfloat16}


def test_the_options_offer_what_the_package_knows():
    choices = {option.name: getattr(option.type, "choices", ()) for option in cli.commands["convert"].params}
    assert set(choices["format"]) == set(get_args(Format))
    assert set(choices["mode"]) == set(get_args(NativeMode))


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from bdiff.cli.main import cli; cli(['convert', '--help'], standalone_mode=False); "
        "print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "bdiff_core", "safetensors"} & set(shown.splitlines()[-1].split())
