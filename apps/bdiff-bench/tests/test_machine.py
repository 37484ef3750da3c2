"""What figures were measured on is described, and the memory of a process is read."""

import mmap
import os
import sys

import pytest
import torch

from bdiff_bench.harness import anonymous_bytes, commit, describe_device, describe_machine


def test_a_machine_is_described_by_processor_threads_and_versions():
    machine = describe_machine()
    assert machine["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()
    assert all(machine.values())
    assert describe_device("cpu")["device"] == machine["processor"]
    assert commit() is None or len(commit().removesuffix("-dirty")) == 40


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say")
def test_memory_that_is_used_is_counted():
    before, size = anonymous_bytes(), 50_000_000
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:  # fresh from the system
        held.write(bytes(size))
        assert anonymous_bytes(os.getpid()) - before > 0.9 * size
    assert anonymous_bytes(2**22 + 1) == 0
