"""Arms are read from a command line, and wrong ones are refused."""

from pathlib import Path

import pytest

from bdiff_bench.memory.arms import RANDOM_PLACE, parse_arm
from kvbank import DynamicSparse, Rolling, SemanticSparse


def test_an_arm_is_read():
    arm = parse_arm("sparse=semantic@0.97:runs/one:two")
    assert (arm.label, arm.folder) == ("sparse", Path("runs/one:two"))
    assert arm.make_policy() == SemanticSparse(top_l=2, num_recent=2, coverage=0.97)
    assert parse_arm("last=rolling").make_policy() == Rolling(num_chunks=4)
    assert parse_arm("d=dynamic@0.5").make_policy() == DynamicSparse(num_chunks=4, coverage=0.5)
    assert parse_arm("n=none").make_policy().select(9) == ()


def test_an_arm_finds_its_transformer(tmp_path):
    (tmp_path / "trained" / "transformer").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    assert parse_arm(f"a=full:{tmp_path / 'bare'}").transformer(tmp_path) == tmp_path / "bare"
    assert parse_arm(f"a=full:{tmp_path / 'trained'}").transformer(tmp_path) == tmp_path / "trained" / "transformer"
    assert parse_arm("a=full").transformer(tmp_path / "trained") == tmp_path / "trained" / "transformer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("semantic", "expected LABEL=POLICY"),
        ("a=:folder", "expected LABEL=POLICY"),
        ("a/b=full", "letters, digits"),
        ("a=forgetful", "expected one of semantic"),
        ("a=semantic@much", "expected a number"),
        ("a=semantic@1.5", "expected a fraction"),
        ("a=rolling@0.9", "keeps all tokens"),
        (f"{RANDOM_PLACE}=full", "a yardstick"),
    ],
)
def test_a_wrong_arm_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        parse_arm(text)
