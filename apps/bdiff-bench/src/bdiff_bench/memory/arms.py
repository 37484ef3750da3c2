"""Arms of a comparison: a transformer, and what it is shown of the past."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from bdiff import defaults
from kvbank import DynamicSparse, Policy, SemanticSparse

RECONSTRUCTION, RANDOM_PLACE = "reconstruction", "random-place"
YARDSTICKS = (RECONSTRUCTION, RANDOM_PLACE)
"""Labels of yardsticks, which are measured beside the arms and need no transformer."""

_LABEL = re.compile(r"[\w.+-]+")
_FORM = "LABEL=POLICY[@COVERAGE][:FOLDER], such as sparse=semantic@0.97:runs/semantic"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to sample the stories."""

    label: str
    """Its name in figures and files."""
    policy: str
    """Which past chunks are shown, a name of `bdiff.defaults.policy`."""
    coverage: float | None = None
    """Share of the attention that the kept tokens of a chunk cover, in (0, 1]; 1 keeps all; None: the policy's."""
    folder: Path | None = None
    """Folder of the transformer, or of a ``transformer/``; None: that of the bench's model."""

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.label):
            raise ValueError(f"label is {self.label!r}; expected letters, digits and . _ + - alone")
        if self.label in YARDSTICKS:
            raise ValueError(f"label is {self.label!r}, which names a yardstick; choose another")
        self.make_policy()  # so that an unknown name is refused now

    def make_policy(self) -> Policy:
        """The policy.

        Raises:
            ValueError: If there is no policy of that name, or a coverage is given and it keeps all tokens.
        """
        if self.policy not in defaults.POLICIES:
            known = ", ".join(defaults.POLICIES)
            raise ValueError(f"policy of {self.label} is {self.policy!r}; expected one of {known}")
        policy = defaults.policy(self.policy)
        if self.coverage is None:
            return policy
        if not isinstance(policy, SemanticSparse | DynamicSparse):
            raise ValueError(f"{self.label}: {self.policy} keeps all tokens; leave out @{self.coverage:g}")
        return replace(policy, coverage=self.coverage)

    def transformer(self, model: Path) -> Path:
        """Folder of the transformer; ``model`` is the bench's model folder."""
        folder = model if self.folder is None else self.folder
        inside = folder / "transformer"
        return inside if inside.is_dir() else folder


def parse_arm(text: str) -> Arm:
    """Read ``LABEL=POLICY[@COVERAGE][:FOLDER]``.

    Raises:
        ValueError: If the text is not of that form.
    """
    label, equals, rest = text.partition("=")
    named, _, folder = rest.partition(":")
    policy, at, coverage = named.partition("@")
    if not equals or not policy:
        raise ValueError(f"arm is {text!r}; expected {_FORM}")
    try:
        share = float(coverage) if at else None
    except ValueError:
        raise ValueError(f"coverage in {text!r} is {coverage!r}; expected a number in (0, 1]") from None
    return Arm(label=label, policy=policy, coverage=share, folder=Path(folder) if folder else None)
