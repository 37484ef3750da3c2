"""Settings of the allocator are for Linux alone."""

import pytest

from bdiff.run import allocator


def test_keeping_freed_memory_is_harmless_elsewhere(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "plan9")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("called mallopt off Linux"))
    allocator.keep_freed_memory()
