"""Where the time of profiled training steps goes."""

import math
from collections.abc import Iterable
from typing import Any

FORWARD = "loss and its batch"
"""Name of the forward pass in a profile."""
_REST, _LARGEST = "element by element, and the rest", 16
_KINDS = (  # the first with a part that is in the operation's name
    ("matrix products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn", "convolution")),
    ("attention", ("scaled_dot_product",)),
    ("norms", ("layer_norm", "rms_norm")),
    ("copies and casts", ("copy", "aten::cat", "clone", "fill_", "zero_", "index", "stack", "gather")),
    ("AdamW and averages", ("_fused_adam", "_foreach_lerp")),
)


def shares(events: Iterable[Any]) -> dict[str, Any]:
    """Shares of profiled time by phase of a step and by kind of operation, and those of the longest operations.

    Args:
        events: What ``torch.profiler.profile.key_averages`` gives; ``key``, ``self_cpu_time_total`` and
            ``cpu_time_total`` are read.
    """
    events = [event for event in events if not event.key.startswith("ProfilerStep")]
    own = {event.key: event.self_cpu_time_total for event in events}
    whole = {event.key: event.cpu_time_total for event in events}
    total = math.fsum(own.values())
    phases = {FORWARD: whole.get(FORWARD, 0.0)}
    phases["backward"] = math.fsum(t for key, t in whole.items() if key.startswith("autograd::engine"))
    phases |= {key.split("#")[1].split(".")[0]: t for key, t in whole.items() if key.startswith("Optimizer.step#")}
    kinds = dict.fromkeys((*(kind for kind, _ in _KINDS), _REST), 0.0)
    for key, took in own.items():
        kinds[kind_of(key)] += took
    largest = sorted(own, key=own.__getitem__, reverse=True)[:_LARGEST]
    return {
        "phases": {name: took / total for name, took in phases.items()},
        "kinds": {name: took / total for name, took in kinds.items()},
        "largest": {key: own[key] / total for key in largest},
    }


def kind_of(operation: str) -> str:
    """The kind of an operation, by the operation's name in a profile."""
    return next((kind for kind, parts in _KINDS if any(part in operation for part in parts)), _REST)
