"""A short form of fuzz_storyboards.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("fuzz_storyboards", Path(__file__).with_name("fuzz_storyboards.py"))
fuzzer = importlib.util.module_from_spec(SPEC)
sys.modules["fuzz_storyboards"] = fuzzer
SPEC.loader.exec_module(fuzzer)


@pytest.mark.parametrize("suffix", fuzzer.GOOD)
@pytest.mark.usefixtures("plain_errors")
def test_mutated_storyboards_are_read_or_refused_in_one_line(suffix, tmp_path):
    outcome = fuzzer.fuzz(suffix, 2000, 0, tmp_path)
    assert outcome.faults[:3] == []
    assert min(outcome.read, outcome.refused) > 100


@pytest.mark.parametrize("text", [text for texts in fuzzer.GOOD.values() for text in texts])
def test_what_is_mutated_is_good(text):
    assert fuzzer.fault_of(fuzzer.Storyboard.parse(text)) is None


def test_faults_are_seen():
    shots = fuzzer.Storyboard.from_prompts(["a"]).shots
    for prompt in ("a (0s - 3s)", " a"):
        board = fuzzer.Storyboard((*shots, type(shots[0])(prompt)))
        assert fuzzer.fault_of(board)
