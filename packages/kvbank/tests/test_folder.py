import itertools
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvbank import (
    DamageError,
    DynamicSparse,
    Float8,
    Full,
    Int4,
    KVBank,
    LayerKV,
    Rolling,
    SalienceOptions,
    SemanticSparse,
    Sink,
)
from kvbank.policies import DeepSink, QueryRecall

OPTIONS = SalienceOptions(num_recent_probes=1, num_random_probes=2)
POLICIES = [
    SemanticSparse(top_l=1, num_recent=1, coverage=0.8),
    SemanticSparse(top_l=2, num_recent=1, coverage=None, drop=0.3),
    SemanticSparse(top_l=1, num_recent=1, coverage=None, num_sink=1),
    DynamicSparse(2, 0.7),
    Rolling(2),
    Sink(1, 1),
    Full(),
    QueryRecall(top_l=1, num_recent=1),
    DeepSink(num_sink=1, num_recent=1, num_tokens=7, reach=2),
]


def embedding(chunk):
    return torch.eye(3)[chunk % 3] + 0.1


def tiny_layers(seed, num_layers=2):
    """Layers of 6 tokens."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.arange(18).reshape(6, 3)
    layers = torch.randn(num_layers, 3, 1, 2, 6, 4, generator=generator)
    return [LayerKV(key, value, position, query=query) for key, value, query in layers]


def told(bank, index):
    """Everything that a bank can be asked, with a read as chunk `index` last."""
    recall = bank.read(index, embedding=embedding(index))
    layers = [(layer.key.tolist(), layer.value.tolist(), layer.position.tolist()) for layer in recall.layers]
    seen = (recall.chunks, recall.kinds, recall.similarity, recall.spans, recall.weights, layers)
    return bank.chunks, bank.next_index, bank.nbytes, bank.metadata, bank.trace, seen


def step(bank, chunk, *, take=0):
    bank.read(chunk, embedding=embedding(chunk))
    bank.write(chunk, tiny_layers(100 * take + chunk), embedding=embedding(chunk + take), metadata={"take": take})
    bank.annotate(chunk, {"latent": [chunk, take]})


def segments(folder):
    return sorted(path.name for path in (folder / "segments").iterdir())


@pytest.mark.parametrize("quantization", [None, Float8()], ids=repr)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_bank_that_is_opened_again_after_every_chunk_is_the_bank_in_memory(tmp_path, policy, quantization):
    how = {"policy": policy, "quantization": quantization, "salience": OPTIONS, "seed": 3}
    memory, bank = KVBank(**how), KVBank(**how).open(tmp_path / "bank")
    for chunk in range(6):
        memory.annotate(chunk + 1, {"shot": chunk})
        bank.annotate(chunk + 1, {"shot": chunk})
        step(memory, chunk)
        step(bank, chunk)
        del bank  # as a process that ends: nothing is said to the bank
        bank = KVBank.load(tmp_path / "bank") if chunk % 2 else KVBank(**how).open(tmp_path / "bank")
        assert told(bank, chunk + 1) == told(memory, chunk + 1)
    assert len(segments(tmp_path / "bank")) == len(bank)


class TwoBanks(RuleBasedStateMachine):
    """A bank in a folder does what one in memory does, whenever it is closed, dropped or saved in between."""

    @initialize(policy=st.sampled_from(POLICIES), where=st.integers(0, 10**9))
    def make(self, policy, where):
        self.folder = Path(self.root) / str(where)
        while self.folder.exists():
            self.folder = self.folder.with_name(f"{self.folder.name}x")
        how = {"policy": policy, "salience": OPTIONS}
        self.memory, self.bank = KVBank(**how), KVBank(**how).open(self.folder, fsync="never")
        self.takes = 0

    def both(self, call):
        answers = []
        for bank in (self.memory, self.bank):
            try:
                answers.append(call(bank))
            except ValueError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]

    @rule(back=st.integers(0, 3))
    def write(self, back):
        self.takes += 1
        chunk, seed = max(0, self.memory.next_index - back), self.takes
        layers = tiny_layers(seed)
        self.both(lambda bank: bank.write(chunk, layers, embedding=embedding(seed), metadata={"take": seed}))

    @rule(ahead=st.integers(-3, 2), text=st.text(max_size=3))
    def annotate(self, ahead, text):
        chunk = max(0, self.memory.next_index + ahead)
        self.both(lambda bank: bank.annotate(chunk, {"note": text}))

    @rule(back=st.integers(0, 3), place=st.integers(0, 2))
    def read(self, back, place):
        chunk = max(0, self.memory.next_index - back)
        self.both(lambda bank: bank.read(chunk, embedding=embedding(place)).chunks)

    @rule(close=st.booleans())
    def stop_and_go_on(self, close):
        if close:
            self.bank.close()
        self.bank = None
        self.bank = KVBank.load(self.folder)

    @precondition(lambda self: self.memory.next_index)
    @rule()
    def save_and_load_the_one_in_memory(self):
        self.memory.save(self.folder / "snapshot")
        self.memory = KVBank.load(self.folder / "snapshot")

    @invariant()
    def they_agree(self):
        left, right = self.memory, self.bank
        assert (left.chunks, left.next_index, left.nbytes) == (right.chunks, right.next_index, right.nbytes)
        assert (left.metadata, left.trace) == (right.metadata, right.trace)
        assert [int(name.split("-")[0]) for name in segments(self.folder)] == list(left.chunks)


def test_a_folder_and_memory_never_differ(tmp_path):
    TwoBanks.root = tmp_path
    quiet = settings(
        max_examples=12,
        stateful_step_count=15,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    machine = TwoBanks.TestCase
    machine.settings = quiet
    machine().runTest()


class Disk:
    """Records every change that a bank makes to its folder, as states that a crash could leave."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.states, self.marks = folder, [], []
        for name in ("replace", "unlink", "mkdir"):
            monkeypatch.setattr(Path, name, self.after(getattr(Path, name)))
        monkeypatch.setattr("os.fsync", self.after(os.fsync))
        monkeypatch.setattr("os.fstat", self.after(os.fstat))

    def after(self, call):
        def wrapped(*args, **options):
            done = call(*args, **options)
            self.look()
            return done

        return wrapped

    def look(self):
        files = {path.relative_to(self.folder): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        if not self.states or files != self.states[-1]:
            self.states.append(files)

    def mark(self):
        """What was done so far is done: no later state may miss it."""
        self.look()
        self.marks.append(len(self.states) - 1)


def laid_out(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def cut_states(states):
    """Every state, and between two of them those in which the file that grew did so in part."""
    yield from enumerate(states)
    stride = int(os.environ.get("KVBANK_CUT_STRIDE", "97"))
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        for name, content in after.items():
            old = before.get(name, b"")
            if name not in before and name.suffix not in (".tmp", ".pending"):
                continue  # it appeared by a rename, which happens or not
            if len(content) > len(old) and content.startswith(old):
                edges = {len(old) + offset for offset in (1, 3, 11, 12, 23, 24, 25)} | {len(content) - 1}
                for end in sorted({*range(len(old) + 1, len(content), stride), *edges}):
                    yield number, {**before, name: content[:end]}


def test_a_crash_anywhere_leaves_the_last_completed_chunk(tmp_path, monkeypatch):
    folder = tmp_path / "bank"
    folder.mkdir()
    how = {"policy": SemanticSparse(top_l=1, num_recent=1, coverage=None)}
    expected = {0: told(KVBank(**how), 0)}
    memory = KVBank(**how)
    plan = [(0, 0), (1, 0), (2, 0), (1, 1)]  # the last is a re-roll
    for number, (chunk, take) in enumerate(plan):
        memory.write(chunk, tiny_layers(100 * take + chunk, 1), embedding=embedding(take), metadata={"take": take})
        copy = tmp_path / "copy"
        memory.save(copy)
        expected[number + 1] = told(KVBank.load(copy), chunk + 1)
    with monkeypatch.context() as patch:
        disk = Disk(folder, patch)
        bank = KVBank(**how).open(folder)
        disk.mark()
        for chunk, take in plan:
            bank.write(chunk, tiny_layers(100 * take + chunk, 1), embedding=embedding(take), metadata={"take": take})
            disk.mark()
        bank.close()
    seen = set()
    for number, (state, files) in enumerate(cut_states(disk.states)):
        done = sum(state >= mark for mark in disk.marks) - 1  # writes that had returned
        where = laid_out(files, tmp_path / f"crash{number}")
        if done < 0 and not (where / "journal").exists():
            continue  # the bank was not yet made
        loaded = KVBank.load(where)
        got = told(loaded, loaded.next_index)
        assert got in (expected[max(done, 0)], expected[min(max(done, 0) + 1, len(plan))])
        assert len(segments(where)) == len(loaded)
        seen.add(next(key for key, value in expected.items() if value == got))
        loaded.write(loaded.next_index, tiny_layers(9, 1), embedding=embedding(0))  # and it goes on
        loaded.close()
        KVBank.load(where).close()
    assert seen == set(range(len(plan) + 1))


def filled(folder, *, policy=None, chunks=4):
    bank = KVBank(policy=SemanticSparse(coverage=None) if policy is None else policy).open(folder)
    for chunk in range(chunks):
        step(bank, chunk)
    bank.close()
    return folder


def test_a_torn_end_is_cut_off_and_the_journal_goes_on(tmp_path):
    folder = filled(tmp_path / "bank")
    whole = (folder / "journal").read_bytes()
    for tail in (b"K", b"KVJ1", b"\0" * 5, b"\0" * 100):
        (folder / "journal").write_bytes(whole + tail)
        KVBank.load(folder).close()
        assert (folder / "journal").read_bytes() == whole
    (folder / "journal").write_bytes(whole + b"other")
    with pytest.raises(DamageError, match=r"journal is damaged: record \d+, at byte \d+, has no frame"):
        KVBank.load(folder)


def test_a_journal_that_lost_a_chunk_is_not_taken_for_a_crash(tmp_path):
    folder = filled(tmp_path / "bank")
    whole = (folder / "journal").read_bytes()
    last = whole.rindex(b"KVJ1", 0, whole.rindex(b"KVJ1"))  # the write, before the last note
    (folder / "journal").write_bytes(whole[:last])
    with pytest.raises(DamageError, match=r"journal is damaged: it ends before 000003-\d+.safetensors was written"):
        KVBank.load(folder)
    assert len(segments(folder)) == 4


def test_missing_and_exchanged_files_are_named(tmp_path):
    folder = filled(tmp_path / "bank")
    first, second, *_ = sorted((folder / "segments").iterdir())
    kept = first.read_bytes()
    first.unlink()
    with pytest.raises(DamageError, match=f"{first.name} is damaged: it is missing"):
        KVBank.load(folder)
    first.write_bytes(second.read_bytes())
    with pytest.raises(DamageError, match=f"{first.name} is damaged: its checksum is") as caught:
        KVBank.load(folder)
    assert caught.value.path == first
    first.write_bytes(kept)
    KVBank.load(folder).close()
    (folder / "journal").unlink()
    for call in (KVBank.load, lambda path: KVBank(policy=Full()).open(path)):
        with pytest.raises(DamageError, match="journal is damaged: it is missing"):
            call(folder)


def test_one_bank_at_a_time_has_a_folder(tmp_path):
    bank = KVBank(policy=Rolling(2)).open(tmp_path / "bank")
    with pytest.raises(ValueError, match="is open in a bank already; close that one first"):
        KVBank.load(tmp_path / "bank")
    bank.close()
    bank.close()
    KVBank.load(tmp_path / "bank")
    with pytest.raises(ValueError, match=r"is closed; KVBank.load\(.*\) opens it again"):
        step(bank, 0)


def test_a_bank_made_otherwise_is_not_gone_on_with(tmp_path):
    filled(tmp_path / "bank", policy=Rolling(2))
    for change, name in (({"seed": 1}, "seed"), ({"budget": 9}, "budget"), ({"quantization": Int4()}, "quantization")):
        with pytest.raises(ValueError, match=f"holds a bank of another {name}; KVBank.load.* continues it"):
            KVBank(policy=Rolling(2), **change).open(tmp_path / "bank")
    with pytest.raises(ValueError, match=r"saved with Rolling\(num_chunks=2\); got Rolling\(num_chunks=3\)"):
        KVBank(policy=Rolling(3)).open(tmp_path / "bank")
    assert KVBank(policy=Rolling(2)).open(tmp_path / "bank").next_index == 4
    (tmp_path / "empty").mkdir()
    used = KVBank(policy=Rolling(2))
    step(used, 0)
    with pytest.raises(ValueError, match="only a new bank can be opened in a folder"):
        used.open(tmp_path / "other")
    with pytest.raises(ValueError, match=r"holds no bank; KVBank\(policy=...\).open\(.*\) makes one"):
        KVBank.load(tmp_path / "empty")


@pytest.mark.parametrize("failing", ["segment", "journal"])
def test_a_full_disk_gives_one_error_and_changes_nothing(tmp_path, monkeypatch, failing):
    folder = tmp_path / "bank"
    bank, memory = (KVBank(policy=Rolling(2)).open(folder), KVBank(policy=Rolling(2)))
    for chunk in range(3):
        step(bank, chunk)
        step(memory, chunk)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == {"segment": 1, "journal": 3}[failing]:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: .*bank/"):
            bank.write(1, tiny_layers(50), embedding=None)
    assert bank.chunks == (1, 2)
    bank.write(3, tiny_layers(3), embedding=embedding(3), metadata={"take": 0})
    memory.write(3, tiny_layers(3), embedding=embedding(3), metadata={"take": 0})
    assert told(bank, 4) == told(memory, 4)
    bank.close()
    assert told(KVBank.load(folder), 4) == told(memory, 4)
    unchanged = [path for path in before if path.suffix == ".safetensors" and path.exists()]
    assert unchanged
    assert all(path.read_bytes() == before[path] for path in unchanged)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        KVBank(policy=Full()).open(tmp_path / "file" / "bank")


def test_writing_never_waits_for_the_disk_where_it_need_not(tmp_path, monkeypatch):
    bank = KVBank(policy=Full()).open(tmp_path / "bank", fsync="never")
    monkeypatch.setattr("os.fsync", lambda descriptor: pytest.fail("waited for the disk"))
    step(bank, 0)


def test_the_format_is_named(tmp_path):
    from safetensors import safe_open

    folder = filled(tmp_path / "bank", chunks=1)
    with safe_open(folder / "segments" / segments(folder)[0], framework="pt") as file:
        assert torch.equal(file.get_tensor("key.0"), tiny_layers(0)[0].key)
        assert set(file.keys()) == {f"{part}.{layer}" for part in ("key", "value", "position") for layer in (0, 1)}
    assert (folder / "journal").read_bytes()[:4] == b"KVJ1"


@pytest.mark.usefixtures("unhooked")
def test_another_fsync_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"fsync is 'always'; expected .chunk. or .never."):
        KVBank(policy=Rolling(2)).open(tmp_path / "other", fsync="always")
