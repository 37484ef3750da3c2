"""Bits flip and files end early: that is always seen, and said with the name of the file.

KVBANK_DAMAGES=1000 runs the long form.
"""

import os
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kvbank import DamageError, Int4, KVBank, LayerKV, SalienceOptions, SemanticSparse, TieredStore
from kvbank.policies import DeepSink

DAMAGES = int(os.environ.get("KVBANK_DAMAGES", "60"))
POLICIES = [SemanticSparse(top_l=1, num_recent=1, coverage=0.8), DeepSink(num_sink=1, num_recent=1, num_tokens=7)]


def filled(bank):
    """A bank of 5 chunks, of which the last three were written a second time."""
    position = torch.arange(18).reshape(6, 3)
    for chunk in (0, 1, 2, 3, 2, 3, 4):
        prompt = torch.eye(3)[chunk % 3]
        bank.read(chunk, embedding=prompt)
        bank.annotate(chunk, {"shot": "a place that was not seen before"})
        layers = torch.randn(2, 3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(chunk))
        bank.write(chunk, [LayerKV(k, v, position, query=q) for k, v, q in layers], embedding=prompt)
    return bank


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A bank in a folder and two snapshots, as bytes by name."""
    root = tmp_path_factory.mktemp("pristine")
    options = SalienceOptions(num_recent_probes=1, num_random_probes=2)
    filled(KVBank(policy=POLICIES[0], salience=options).open(root / "bank")).close()
    filled(KVBank(policy=POLICIES[0], salience=options)).save(root / "plain")
    filled(KVBank(policy=POLICIES[1], quantization=Int4(group=3))).save(root / "packed")
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def laid_out(files, root):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def damaged(content, generator):
    if generator.random() < 0.4:
        return content[: generator.randrange(len(content))]
    # Half of the flips hit the start, where frames and headers are.
    end = len(content) if generator.random() < 0.5 else min(200, len(content))
    place, bit = generator.randrange(end), generator.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_what_is_undamaged_loads(pristine, tmp_path):
    laid_out(pristine, tmp_path)
    for name in ("bank", "plain", "packed"):
        assert KVBank.load(tmp_path / name).next_index == 5


def test_every_damage_is_found_and_named(pristine, tmp_path):
    generator = random.Random(7)
    laid_out(pristine, tmp_path)
    found = set()
    for number in range(DAMAGES):
        name = generator.choice(list(pristine))
        path = tmp_path / name
        path.write_bytes(content := damaged(pristine[name], generator))
        target = tmp_path / name.parts[0]
        with pytest.raises(DamageError) as caught:
            KVBank.load(target, store=TieredStore(device_budget=0) if number % 2 else None)
        assert caught.value.path == path
        assert str(path) in str(caught.value)
        found.add(name.suffix or name.name)
        path.write_bytes(pristine[name])
        names = {each.relative_to(tmp_path): each for each in tmp_path.rglob("*") if each.is_file()}
        assert {each: names[each].read_bytes() for each in names} == pristine  # nothing was touched
        assert content != pristine[name]
    assert found == {"journal", ".safetensors", "plain", "packed"}
    assert KVBank.load(tmp_path / "bank").next_index == 5


def test_damage_to_files_of_older_formats_is_named(pristine, tmp_path):
    laid_out(pristine, tmp_path)
    with safe_open(tmp_path / "plain", framework="pt") as file:
        header = file.metadata()["kvbank"].replace('"format": 3', '"format": 2')
        save_file({name: file.get_tensor(name) for name in file.keys()}, tmp_path / "old", metadata={"kvbank": header})  # noqa: SIM118
    assert KVBank.load(tmp_path / "old").next_index == 5
    whole = (tmp_path / "old").read_bytes()
    (tmp_path / "old").write_bytes(whole[:-3])
    with pytest.raises(DamageError, match=r"old is damaged: it is no safetensors file"):
        KVBank.load(tmp_path / "old")


def test_a_lost_checksum_does_not_pass_for_an_older_format(pristine, tmp_path):
    (tmp_path / "bank").write_bytes(
        pristine[next(name for name in pristine if name.name == "plain")].replace(
            b'{"__metadata__":{"crc32"', b'{"__metadata__":{"crc33"', 1
        )
    )
    with pytest.raises(DamageError, match="its checksum is not where it was written"):
        KVBank.load(tmp_path / "bank")
