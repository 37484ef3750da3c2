import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kvbank import (
    DynamicSparse,
    ExactIndex,
    FaissIndex,
    Float8,
    Full,
    Int4,
    Int8,
    KVBank,
    Rolling,
    SalienceOptions,
    SemanticSparse,
    Sink,
)
from kvbank.policies import DeepSink, LatentRecall, PoseRecall, QueryRecall

POLICIES = [
    SemanticSparse(top_l=1, num_recent=1, coverage=0.8, num_sink=1),
    SemanticSparse(top_l=2, num_recent=1, coverage=None, drop=0.3),
    DynamicSparse(2, 0.7),
    Rolling(2),
    Sink(1, 1),
    Full(),
]
LAYER_POLICIES = [
    LatentRecall(top_l=1, num_recent=1, coverage=0.8),
    QueryRecall(top_l=1, num_recent=1, layers=(1,), temperature=0.3),
    PoseRecall(top_l=2, num_recent=1, field_of_view=(90.0, 90.0)),
    DeepSink(num_sink=1, num_recent=1, num_tokens=7),
]


def embedding(chunk):
    return torch.eye(3)[chunk % 3] + 0.1


def step(bank, make_layers, chunk):
    recall = bank.read(chunk, embedding=embedding(chunk))
    bank.write(chunk, make_layers(chunk), embedding=embedding(chunk), metadata={"prompt": f"chunk {chunk}"})
    bank.annotate(chunk, {"latent": [chunk % 3, 1]})
    return recall


def same(left, right):
    assert (left.chunks, left.kinds, left.similarity, left.spans) == (
        right.chunks,
        right.kinds,
        right.similarity,
        right.spans,
    )
    for a, b in zip(left.layers, right.layers, strict=True):
        assert a.key.dtype == b.key.dtype
        assert torch.equal(a.key, b.key)
        assert torch.equal(a.value, b.value)
        assert torch.equal(a.position, b.position)


@pytest.mark.parametrize("index", [ExactIndex, FaissIndex])
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_loaded_bank_goes_on_as_if_it_had_never_stopped(make_layers, tmp_path, policy, index):
    options = SalienceOptions(num_recent_probes=1, num_random_probes=2, mask="token")
    bank = KVBank(policy=policy, index=index(), seed=5, salience=options)
    for chunk in range(4):
        step(bank, make_layers, chunk)
    # Twice, the second time from a loaded one and over the first file.
    for _ in range(2):
        bank.save(tmp_path / "bank.safetensors")
        loaded = KVBank.load(tmp_path / "bank.safetensors")
        assert (loaded.policy, loaded.chunks, loaded.next_index) == (bank.policy, bank.chunks, bank.next_index)
        assert (loaded.nbytes, loaded.metadata, loaded.trace) == (bank.nbytes, bank.metadata, bank.trace)
        assert type(loaded._state.index) is index
        for chunk in range(bank.next_index, bank.next_index + 2):
            same(step(loaded, make_layers, chunk), step(bank, make_layers, chunk))
        assert loaded.trace == bank.trace
        bank = loaded


@pytest.mark.parametrize("quantization", [None, Int8(), Int4(group=5), Float8(group=4)], ids=repr)
@pytest.mark.parametrize("policy", LAYER_POLICIES, ids=lambda policy: type(policy).__name__)
def test_so_does_a_packed_one_and_one_that_answers_layer_by_layer(make_layers, tmp_path, policy, quantization):
    bank = KVBank(policy=policy, quantization=quantization, budget=40)
    for chunk in range(8):
        bank.annotate(chunk, {"pose": [0, 0, 0, 0, 70 * chunk]})
    for chunk in range(5):
        step(bank, make_layers, chunk)
    bank.save(tmp_path / "bank")
    loaded = KVBank.load(tmp_path / "bank")
    assert (loaded.policy, loaded.nbytes, loaded.trace) == (bank.policy, bank.nbytes, bank.trace)
    for chunk in range(5, 8):
        same(step(loaded, make_layers, chunk), step(bank, make_layers, chunk))
    assert loaded.trace == bank.trace
    assert "recalled" in loaded.trace[-1].kinds
    assert loaded.policy_context(8, embedding=embedding(8)).budget == 40


def test_a_packed_bank_is_saved_packed(make_layers, tmp_path):
    sizes = {}
    for quantization in (None, Int8(), Int4()):
        bank = KVBank(policy=Full(), quantization=quantization)
        for chunk in range(3):
            bank.write(chunk, make_layers(chunk, tokens=200, dh=16), embedding=None)
        bank.save(tmp_path / "bank")
        with safe_open(tmp_path / "bank", framework="pt") as file:
            assert sum(file.get_tensor(name).nbytes for name in file.keys()) == bank.nbytes  # noqa: SIM118
            assert (file.get_tensor("key.1.0").dtype == torch.uint8) == (quantization is not None)
        sizes[quantization] = (tmp_path / "bank").stat().st_size
    assert sizes[Int8()] < 0.4 * sizes[None]
    assert sizes[Int4()] < 0.3 * sizes[None]


def test_a_policy_of_yours_is_given_back(make_layers, tmp_path):
    class Mine(Rolling):
        pass

    bank = KVBank(policy=Mine(2))
    step(bank, make_layers, 0)
    bank.save(tmp_path / "bank")
    loaded = KVBank.load(tmp_path / "bank", policy=Mine(2))
    same(loaded.read(1, embedding=None), bank.read(1, embedding=None))
    for wrong in (None, Rolling(2)):
        with pytest.raises(ValueError, match=r"saved with a Mine; pass it again: KVBank.load\(path, policy=Mine"):
            KVBank.load(tmp_path / "bank", policy=wrong)


def test_a_policy_that_is_known_cannot_be_exchanged(tmp_path):
    KVBank(policy=Rolling(2)).save(tmp_path / "bank")
    assert KVBank.load(tmp_path / "bank", policy=Rolling(2)).policy == Rolling(2)
    with pytest.raises(ValueError, match=r"saved with Rolling\(num_chunks=2\); got Rolling\(num_chunks=3\)"):
        KVBank.load(tmp_path / "bank", policy=Rolling(3))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_files_of_format_1_are_read(make_layers, tmp_path, policy):
    bank = KVBank(policy=policy)
    for chunk in range(4):
        step(bank, make_layers, chunk)
    bank.save(tmp_path / "bank")
    with safe_open(tmp_path / "bank", framework="pt") as file:
        header = json.loads(file.metadata()["kvbank"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["format"] = 1
    header["index"] = header["index"][0]
    for name in ("quantization", "budget", "plans"):
        del header[name]
    for read in header["reads"]:
        del read["weights"], read["picked"]
    save_file(tensors, tmp_path / "old", metadata={"kvbank": json.dumps(header)})
    loaded = KVBank.load(tmp_path / "old")
    assert loaded.trace == bank.trace
    same(loaded.read(4, embedding=embedding(4)), bank.read(4, embedding=embedding(4)))


@pytest.mark.parametrize("spec", ["flat", "ivf16,nprobe=4", "hnsw32"])
def test_the_spec_of_an_index_survives(tmp_path, spec):
    KVBank(policy=Full(), index=FaissIndex(spec)).save(tmp_path / "bank")
    assert KVBank.load(tmp_path / "bank")._settings.index.spec == spec


def test_an_empty_bank_survives(tmp_path):
    KVBank(policy=SemanticSparse(), seed=3).save(tmp_path / "bank")
    loaded = KVBank.load(tmp_path / "bank")
    assert (len(loaded), loaded.trace, loaded.policy) == (0, (), SemanticSparse())
    assert loaded.read(0, embedding=torch.ones(2)).layers == ()


def test_bfloat16_and_missing_embeddings_survive(make_layers, tmp_path):
    bank = KVBank(policy=Full())
    half = [type(layer)(layer.key.bfloat16(), layer.value.bfloat16(), layer.position) for layer in make_layers(0)]
    bank.write(0, half, embedding=None)
    bank.save(str(tmp_path / "bank"))
    loaded = KVBank.load(str(tmp_path / "bank"))
    same(loaded.read(1, embedding=None), bank.read(1, embedding=None))


def test_embeddings_are_saved_as_they_were_written(make_layers, tmp_path):
    bank = KVBank(policy=SemanticSparse(coverage=None))
    vector = torch.tensor([1.0, 0.0])
    bank.write(0, make_layers(0), embedding=vector)
    vector.fill_(1.0)
    bank.save(tmp_path / "bank")
    assert KVBank.load(tmp_path / "bank").read(1, embedding=torch.tensor([3.0, 0.0])).similarity == (1.0,)


def test_the_file_is_plain_safetensors_with_json(make_layers, tmp_path):
    bank = KVBank(policy=SemanticSparse())
    step(bank, make_layers, 0)
    bank.save(tmp_path / "bank")
    with safe_open(tmp_path / "bank", framework="pt") as file:
        header = json.loads(file.metadata()["kvbank"])
        assert torch.equal(file.get_tensor("embedding.0"), embedding(0))
    written = {"top_l": 2, "num_recent": 2, "coverage": 0.98, "drop": 0.0, "age_bonus": 0.0, "num_sink": 0}
    assert header["policy"] == ["SemanticSparse", written]
    assert header["records"][0]["metadata"] == {"prompt": "chunk 0", "latent": [0, 1]}


def test_a_failed_save_leaves_the_old_file_and_no_other(make_layers, tmp_path, monkeypatch):
    bank = KVBank(policy=Full())
    step(bank, make_layers, 0)
    bank.save(tmp_path / "bank")
    old = (tmp_path / "bank").read_bytes()
    step(bank, make_layers, 1)

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        bank.save(tmp_path / "bank")
    assert (tmp_path / "bank").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_a_bank_with_a_rotate_wants_it_back_before_it_selects(make_layers, tmp_path):
    def rotate(x, position):
        return x * (1 + position[:, 2:].to(x.dtype))

    bank = KVBank(policy=DynamicSparse(1, 0.7), rotate=rotate)
    step(bank, make_layers, 0)
    bank.save(tmp_path / "bank")
    without, given = KVBank.load(tmp_path / "bank"), KVBank.load(tmp_path / "bank", rotate=rotate)
    same(without.read(1, embedding=None), bank.read(1, embedding=None))
    with pytest.raises(ValueError, match=r"give it to KVBank.load\(path, rotate=...\)"):
        step(without, make_layers, 1)
    step(given, make_layers, 1)
    step(bank, make_layers, 1)
    assert given.trace == bank.trace
    same(given.read(2, embedding=None), bank.read(2, embedding=None))


def test_what_a_snapshot_cannot_name_is_refused(make_layers, tmp_path):
    class Mine(ExactIndex):
        pass

    bank = KVBank(policy=Full(), index=Mine())
    with pytest.raises(ValueError, match=r"cannot save the index .*expected one of ExactIndex, FaissIndex"):
        bank.save(tmp_path / "bank")
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello, this is no tensor file at all")
    with pytest.raises(ValueError, match="is no safetensors file"):
        KVBank.load(tmp_path / "text")
    save_file({"x": torch.ones(1)}, tmp_path / "weights")
    with pytest.raises(ValueError, match="has format None; this version reads formats 1 to 3"):
        KVBank.load(tmp_path / "weights")
    with pytest.raises(FileNotFoundError):
        KVBank.load(tmp_path / "nothing")
