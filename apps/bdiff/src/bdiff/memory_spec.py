"""Memory policies as one line of text: ``sink:frames=3,window=6``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvbank import Policy


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of policy: what makes it, and its keys."""

    make: Callable[[Mapping[str, Any]], "Policy"]
    """Makes the policy of its arguments."""
    keys: Mapping[str, tuple[str, type]]
    """Argument of the policy, and type of its value, by key."""
    defaults: Mapping[str, Any]
    """Arguments that are used where none of their group is given."""


def parse_memory(spec: str) -> "Policy":
    """The policy that a text names: a kind, and after a colon its settings as ``key=value``, separated by commas.

    Raises:
        ValueError: If there is no such kind or key, or a value does not fit.
    """
    name, _, rest = spec.partition(":")
    if name not in KINDS:
        raise ValueError(f"memory is {spec!r}; expected one of {', '.join(KINDS)}, such as sink:frames=3,window=6")
    kind, given = KINDS[name], {}
    for item in filter(None, rest.split(",")):
        key, equals, text = (part.strip() for part in item.partition("="))
        if key not in kind.keys or not equals:
            keys = f"the keys of {name} are {', '.join(kind.keys)}" if kind.keys else f"{name} has no keys"
            raise ValueError(f"memory is {spec!r}, with {item.strip()!r}; {keys}, each as key=value")
        argument, number = kind.keys[key]
        if argument in given:
            raise ValueError(f"memory is {spec!r}; {key} is given twice")
        try:
            given[argument] = number(text)
        except ValueError:
            wanted = "a whole number" if number is int else "a number"
            raise ValueError(f"memory is {spec!r}; {key} is {text!r}, expected {wanted}") from None
    try:
        return kind.make({**kind.defaults, **given} if _same_unit(given) else given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"memory is {spec!r}: {error}") from None


def _same_unit(given: Mapping[str, Any]) -> bool:
    """Whether the defaults, which are counts of chunks, go together with what is given."""
    return not {"frames", "window_frames"} & set(given)


def _kvbank(name: str) -> Callable[[Mapping[str, Any]], "Policy"]:
    def make(arguments: Mapping[str, Any]) -> "Policy":
        import kvbank

        policy: Policy = getattr(kvbank, name)(**arguments)
        return policy

    return make


KINDS: Mapping[str, Kind] = {
    "semantic": Kind(
        _kvbank("SemanticSparse"),
        {
            "top_l": ("top_l", int),
            "recent": ("num_recent", int),
            "sink": ("num_sink", int),
            "coverage": ("coverage", float),
            "drop": ("drop", float),
            "age_bonus": ("age_bonus", float),
        },
        {"top_l": 2, "num_recent": 2, "coverage": 0.98},
    ),
    "rolling": Kind(
        _kvbank("Rolling"),
        {"chunks": ("num_chunks", int), "frames": ("frames", int), "least": ("frames_per_chunk", int)},
        {"num_chunks": 4},
    ),
    "sink": Kind(
        _kvbank("Sink"),
        {
            "chunks": ("num_sink", int),
            "recent": ("num_recent", int),
            "frames": ("frames", int),
            "window": ("window_frames", int),
            "least": ("frames_per_chunk", int),
        },
        {"num_sink": 2, "num_recent": 2},
    ),
    "dynamic": Kind(
        _kvbank("DynamicSparse"),
        {"chunks": ("num_chunks", int), "coverage": ("coverage", float)},
        {"num_chunks": 4, "coverage": 0.98},
    ),
    "full": Kind(_kvbank("Full"), {}, {}),
    "none": Kind(_kvbank("Sink"), {}, {"num_sink": 0, "num_recent": 0}),
}
"""Kinds of policies by name."""
