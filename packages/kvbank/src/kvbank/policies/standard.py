"""Policies that are pure functions of chunk numbers and of prompt similarity.

Windows of the last chunks or latent frames are in `windows`. Policies that look at more, or answer layer by layer, are
in `query_scored` and `deep_sink`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from kvbank.kinds import Kind

Similarity = Sequence[float] | Float[Tensor, " chunks"]


@runtime_checkable
class Policy(Protocol):
    """What a bank asks of a policy; trainers need only `select`."""

    @property
    def coverage(self) -> float | None:
        """Fraction of attention that the stored tokens of a chunk cover; None stores all of its tokens."""

    @property
    def drop(self) -> float:
        """Probability of dropping a token at read."""

    @property
    def uses_similarity(self) -> bool:
        """Whether the policy compares prompts, so that every chunk needs an embedding."""

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """Ids of the chunks that chunk `index` sees, ascending."""

    def kind(self, index: int, chunk: int) -> Kind:
        """Why chunk `index` sees `chunk`."""

    def retains(self, index: int, chunk: int) -> bool:
        """Whether chunk `index` or a later one may see `chunk`; if not, a bank frees it."""


@dataclass(frozen=True, slots=True)
class SemanticSparse:
    """The recent chunks and the most similar older ones, salient tokens only (section 3.4, Eqs. 8-9).

    With `num_sink` every chunk also sees the first chunks, as with `Sink`.

    Raises:
        ValueError: If a count or the age bonus is negative, the coverage is not in (0, 1], or the drop is not in
            [0, 1).
        TypeError: If a count is no integer.
    """

    top_l: int = 2
    """Older chunks recalled by similarity; the recent ones are no candidates."""
    num_recent: int = 2
    """Chunks right before the current one."""
    coverage: float | None = 0.98
    """The paper's tau; None stores whole chunks."""
    _: KW_ONLY
    drop: float = 0.0
    """Algorithm 1's p_drop: each token is hidden with this probability, anew for every reading chunk; for training."""
    age_bonus: float = 0.0
    """Added to the similarity of the first chunk, and less and less to later ones. Among chunks of about equal
    similarity the oldest is recalled; later visits to a place are copies of the first. Not in the paper."""
    num_sink: int = 0
    """Chunks from the start of the video that every chunk sees; they are no candidates for recall. They show the
    subject as it was first generated. Not in the paper."""

    def __post_init__(self) -> None:
        check_count("top_l", self.top_l)
        check_count("num_recent", self.num_recent)
        check_count("num_sink", self.num_sink)
        if self.coverage is not None:
            check_coverage(self.coverage)
        if not 0.0 <= self.drop < 1.0:
            raise ValueError(f"drop is {self.drop}; expected a probability in [0, 1)")
        if not 0.0 <= self.age_bonus < math.inf:
            raise ValueError(f"age_bonus is {self.age_bonus}; expected a number from 0")

    @property
    def uses_similarity(self) -> bool:
        """Whether there is recall; without it no similarity is needed."""
        return self.top_l > 0

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """The sink, the recent chunks and the `top_l` best of the others by similarity and `age_bonus`.

        Ties go to the newest.

        Args:
            index: The chunk that reads.
            similarity: Cosine similarity of its prompt to those of chunks 0 .. index - 1.

        Raises:
            ValueError: If there is not one for each of them.
        """
        recent = last_chunks(index, self.num_recent)
        sink = range(min(self.num_sink, recent.start))
        if not self.uses_similarity:
            return (*sink, *recent)
        if len(similarity) != index:
            raise ValueError(
                f"got {len(similarity)} similarities for chunk {index}; "
                f"expected one for each of the {index} chunks before it"
            )
        scores = {
            chunk: float(similarity[chunk]) + self.age_bonus * (1 - chunk / index)
            for chunk in range(sink.stop, recent.start)
        }
        return (*sink, *sorted(best_chunks(scores, scores, self.top_l)), *recent)

    def kind(self, index: int, chunk: int) -> Kind:
        """`recent`, else `sink`, else `recalled`."""
        return kind_of(index, chunk, num_recent=self.num_recent, num_sink=self.num_sink)

    def retains(self, index: int, chunk: int) -> bool:
        """Every chunk if there is recall; else the sink and the recent chunks."""
        return self.uses_similarity or self.kind(index, chunk) != "recalled"


@dataclass(frozen=True, slots=True)
class _Window:
    """A window of the last chunks."""

    num_chunks: int
    """Chunks right before the current one."""

    def __post_init__(self) -> None:
        check_count("num_chunks", self.num_chunks, least=1)

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """The last `num_chunks` chunks."""
        return tuple(last_chunks(index, self.num_chunks))

    def kind(self, index: int, chunk: int) -> Kind:
        """Always `recent`."""
        return "recent"

    def retains(self, index: int, chunk: int) -> bool:
        """The chunks of the window."""
        return chunk >= index - self.num_chunks


@dataclass(frozen=True, slots=True)
class DynamicSparse(_Window):
    """The last chunks, salient tokens only: Table 5's dynamic sparse KV, after ZipVL (arXiv 2410.08584).

    Raises:
        ValueError: If the count is below 1, or the coverage no fraction in (0, 1].
        TypeError: If the count is no integer.
    """

    coverage: float
    """Fraction of attention that the stored tokens cover."""

    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _Window.__post_init__(self)
        check_coverage(self.coverage)


@dataclass(frozen=True, slots=True)
class Full:
    """All earlier chunks, whole: what a dense block-causal model sees."""

    coverage: ClassVar[None] = None
    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """Every chunk before `index`."""
        return tuple(last_chunks(index, index))

    def kind(self, index: int, chunk: int) -> Kind:
        """Always `recent`: the window is the whole video."""
        return "recent"

    def retains(self, index: int, chunk: int) -> bool:
        """Every chunk."""
        return True


def best_chunks(candidates: Iterable[int], scores: Similarity | Mapping[int, float], count: int) -> list[int]:
    """The `count` candidates with the highest scores, best first; ties go to the newest."""
    return sorted(candidates, key=lambda chunk: (float(scores[chunk]), chunk), reverse=True)[:count]


def last_chunks(index: int, count: int) -> range:
    """The `count` chunks before `index`, or as many as there are."""
    if index < 0:
        raise ValueError(f"chunk number is {index}; chunks count from 0")
    return range(max(0, index - count), index)


def kind_of(index: int, chunk: int, *, num_recent: int, num_sink: int) -> Kind:
    """Why chunk `index` sees `chunk`: `recent`, else `sink`, else `recalled`."""
    if chunk >= index - num_recent:
        return "recent"
    return "sink" if chunk < num_sink else "recalled"


def check_count(name: str, value: int, *, least: int = 0) -> None:
    """Raise an error unless the value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")


def check_coverage(value: float) -> None:
    """Raise ValueError unless the value is in (0, 1]."""
    if not 0.0 < value <= 1.0:
        raise ValueError(f"coverage is {value}; expected a fraction in (0, 1]")
