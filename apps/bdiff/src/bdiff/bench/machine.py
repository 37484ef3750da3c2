"""What figures were measured on."""

import platform
from importlib.metadata import version
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """Processor, threads of this process, and versions."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bdiff": version("bdiff"),
    }
