"""Query-scored policies: the reader is the query, and each policy scores chunks by its own rule.

The rules compare latents (`LatentRecall`), queries and keys of attention (`QueryRecall`), or poses (`PoseRecall`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvbank.kinds import Kind
from kvbank.policies.context import LayerPick, PolicyContext
from kvbank.policies.standard import Similarity, best_chunks, check_count, check_coverage, kind_of, last_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class _QueryScored:
    """The common part: the chunks of a sink and of a window, and between them those with the highest scores."""

    top_l: int = 2
    """Chunks recalled by score; those of the sink and the window are no candidates."""
    num_recent: int = 2
    """Chunks right before the current one."""
    num_sink: int = 0
    """Chunks from the start of the video that every chunk sees."""
    coverage: float | None = None
    """Fraction of attention that the stored tokens of a chunk cover; None stores all of its tokens."""

    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False
    uses_summaries: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("top_l", "num_recent", "num_sink"):
            check_count(name, getattr(self, name))
        if self.coverage is not None:
            check_coverage(self.coverage)

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """What all layers show, given this policy's score of every chunk before `index`; ties go to the newest."""
        candidates = self._candidates(index)
        if candidates and self.top_l and len(similarity) != index:
            raise ValueError(f"got {len(similarity)} scores for chunk {index}; expected one for each chunk before it")
        ranked = best_chunks(candidates, similarity, self.top_l) if self.top_l else []
        return tuple(sorted([*self._always(index), *ranked]))

    def kind(self, index: int, chunk: int) -> Kind:
        """`recent`, else `sink`, else `recalled`."""
        return kind_of(index, chunk, num_recent=self.num_recent, num_sink=self.num_sink)

    def retains(self, index: int, chunk: int) -> bool:
        """Every chunk if there is recall; else the sink and the window."""
        return self.top_l > 0 or self.kind(index, chunk) != "recalled"

    def _candidates(self, index: int) -> range:
        start = last_chunks(index, self.num_recent).start
        return range(min(self.num_sink, start), start)

    def _always(self, index: int) -> tuple[int, ...]:
        candidates = self._candidates(index)
        return (*range(candidates.start), *range(candidates.stop, index))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRecall(_QueryScored):
    """Chunks that look like the newest one, by embeddings of latents (LongLive-RAG, arXiv 2606.02553).

    The embedding of each finished chunk comes as metadata, a list of numbers: LongLive-RAG trains a small autoencoder
    for it, or takes the mean over space. It recalls frames; here the unit is a chunk. Annotate each chunk that
    `generate` yields: `bank.annotate(chunk.index, {"latent": embed(chunk.latents).tolist()})`.

    Raises:
        ValueError: If a count is negative or the coverage no fraction.
        TypeError: If a count is no integer.
    """

    name: str = "latent"
    """The entry of the metadata that holds the embedding."""

    def recall(self, past: PolicyContext) -> tuple[LayerPick, ...]:
        """The sink, the window, and the candidates whose embedding is nearest to that of the chunk before the reader.

        Raises:
            ValueError: If that chunk or a candidate has no embedding.
        """
        scores = self.scores(past)
        ranked = best_chunks(scores, scores, self.top_l)
        return past.in_every_layer(past.within_budget(ranked, always=self._always(past.index)))

    def scores(self, past: PolicyContext) -> dict[int, float]:
        """Cosine similarity of each candidate's embedding to that of the chunk before the reader."""
        candidates = self._candidates(past.index)
        if not candidates or self.top_l == 0:
            return {}
        newest, *others = (torch.tensor(past.noted(c, self.name)).double() for c in (past.index - 1, *candidates))
        cosines = torch.nn.functional.cosine_similarity(torch.stack(others), newest, dim=1)
        # Rounded as prompts are, so that the same embedding ties with itself.
        return {chunk: round(cosine, 7) for chunk, cosine in zip(candidates, cosines.tolist(), strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRecall(_QueryScored):
    """In each layer, the chunks whose keys agree most with its queries (MemFlow, arXiv 2512.14699; LayerRecall, 2026).

    This is an approximation. A recall holds for all denoising steps of a chunk, so the queries of that chunk do not
    exist yet; the mean query of the chunk before is used instead. MemFlow scores with the queries of the current chunk,
    and LayerRecall adds learned projections of its features. As in both, the mean key before RoPE represents a chunk.

    Layers may recall different chunks. `Recall.chunks` lists the chunks of all layers, and a layer that does not show
    one of them has a span of 0 there. All layers use the same slot for a chunk.

    Raises:
        ValueError: If a count is negative, the coverage no fraction, or the temperature not above 0.
        TypeError: If a count is no integer.
    """

    layers: tuple[int, ...] | None = None
    """Layers that recall (the memory-sensitive ones of LayerRecall); others show sink and window only. None: all."""
    temperature: float | None = None
    """None shows recalled chunks at full weight. A number multiplies their values by exp((score - best score) /
    temperature), so by 1 for the best. LayerRecall's soft mode instead merges the candidates into one slot."""

    uses_summaries: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _QueryScored.__post_init__(self)
        if self.temperature is not None and not 0.0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; expected a finite number above 0, or None")
        for layer in self.layers or ():
            check_count("layers", layer)

    def recall(self, past: PolicyContext) -> tuple[LayerPick, ...]:
        """For each layer the sink, the window, and the candidates with the highest scores.

        Raises:
            ValueError: If chunks came without queries, or `layers` names one that the model does not have.
        """
        if self.layers and past.num_layers and max(self.layers) >= past.num_layers:
            raise ValueError(f"layers is {self.layers}; the chunks held have layers 0 to {past.num_layers - 1}")
        always = self._always(past.index)
        picks = []
        for layer in range(past.num_layers):
            recalls = self.layers is None or layer in self.layers
            scores = self.scores(past, layer) if recalls else {}
            chunks = past.within_budget(best_chunks(scores, scores, self.top_l), always=always, layers=[layer])
            picks.append(LayerPick(chunks=chunks, weights=self._weights({c: scores[c] for c in chunks if c in scores})))
        return tuple(picks)

    def scores(self, past: PolicyContext, layer: int) -> dict[int, float]:
        """Cosine similarity of each candidate's mean key to the mean query of the chunk before, mean over heads.

        Raises:
            ValueError: If that chunk came without queries.
        """
        candidates = self._candidates(past.index)
        if not candidates or self.top_l == 0:
            return {}
        query = past.summaries[past.index - 1][layer].query
        if query is None:
            raise ValueError(f"chunk {past.index - 1} came without queries; {self} needs those of every chunk")
        keys = torch.stack([past.summaries[chunk][layer].key for chunk in candidates])
        cosines = torch.nn.functional.cosine_similarity(keys, query[None], dim=-1).mean((1, 2))
        return dict(zip(candidates, cosines.tolist(), strict=True))

    def _weights(self, scores: Mapping[int, float]) -> dict[int, float]:
        if self.temperature is None or not scores:
            return {}
        best = max(scores.values())
        return {chunk: math.exp((score - best) / self.temperature) for chunk, score in scores.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseRecall(_QueryScored):
    """Chunks whose camera saw what the reader's camera will see (WorldMem, arXiv 2504.12369).

    Each chunk needs `pose` in its metadata: five numbers (x, y, z, pitch, yaw), angles in degrees, yaw 0 along +z and
    90 along +x, pitch up. If `time` is set, it names the entry with the chunk's time. The reader's pose must be known
    before it reads, so annotate a planned camera path in advance: `bank.annotate(index, {"pose": [...]})`.

    Points in a ball around the reader represent the scene. The score of a chunk is its share of the points that the
    reader will see, less a little for its age. Points that the best chunk sees no longer count for the next one.
    WorldMem draws the points at random and works by frame.

    Raises:
        ValueError: If a count is negative, or an angle, the radius or a weight out of range.
        TypeError: If a count is no integer.
    """

    field_of_view: tuple[float, float] = (105.0, 75.0)
    """Horizontal and vertical, in degrees."""
    radius: float = 30.0
    """Radius of the ball of points around the reader, in the unit of the poses."""
    num_points: int = 4096
    """Points in that ball."""
    age_weight: float = 0.2
    """How much less the score of the oldest possible chunk is; younger chunks lose less."""
    time: str | None = None
    """The entry of the metadata that holds a chunk's time; None: its number."""

    def __post_init__(self) -> None:
        _QueryScored.__post_init__(self)
        check_count("num_points", self.num_points, least=1)
        if len(self.field_of_view) != 2 or not all(0.0 < angle <= 360.0 for angle in self.field_of_view):
            raise ValueError(f"field_of_view is {self.field_of_view}; expected two angles in (0, 360] degrees")
        if not self.radius > 0.0 or self.age_weight < 0.0:
            raise ValueError(
                f"radius is {self.radius} and age_weight {self.age_weight}; expected above 0, and at least 0"
            )

    def recall(self, past: PolicyContext) -> tuple[LayerPick, ...]:
        """The sink, the window, and candidates one by one, each by the points that those before it do not see.

        Raises:
            ValueError: If the reader or a candidate has no pose, or no time where `time` is set.
        """
        candidates = list(self._candidates(past.index)) if self.top_l else []
        ranked: list[int] = []
        if candidates:
            points = self._points() + self._pose(past, past.index)[:3]
            open_points = self._sees(self._pose(past, past.index), points)
            seen = {chunk: self._sees(self._pose(past, chunk), points) for chunk in candidates}
            age = self._ages(past, candidates)
            while candidates and len(ranked) < self.top_l:
                total = max(1, int(open_points.sum()))
                scores = {c: int((open_points & seen[c]).sum()) / total - self.age_weight * age[c] for c in candidates}
                ranked += best_chunks(candidates, scores, 1)
                candidates.remove(ranked[-1])
                open_points &= ~seen[ranked[-1]]
        return past.in_every_layer(past.within_budget(ranked, always=self._always(past.index)))

    def _points(self) -> Float[Tensor, "points 3"]:
        """Points evenly spread in a ball around 0; the same at every call."""
        u, v, w = torch.quasirandom.SobolEngine(3).draw(self.num_points).double().T
        radius, around, cosine = self.radius * u ** (1 / 3), 2 * math.pi * v, 1 - 2 * w
        sine = (1 - cosine**2).sqrt()
        return torch.stack([radius * sine * around.cos(), radius * cosine, radius * sine * around.sin()], dim=1)

    def _sees(self, pose: Float[Tensor, " 5"], points: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        x, y, z = (points - pose[:3]).T
        yaw, pitch = torch.atan2(x, z).rad2deg(), torch.atan2(y, torch.hypot(x, z)).rad2deg()
        turned = (yaw - pose[4] + 180.0) % 360.0 - 180.0
        horizontal, vertical = self.field_of_view
        return (turned.abs() < horizontal / 2) & ((pitch - pose[3]).abs() < vertical / 2)

    def _pose(self, past: PolicyContext, chunk: int) -> Float[Tensor, " 5"]:
        pose = torch.tensor(past.noted(chunk, "pose"), dtype=torch.float64)
        if pose.shape != (5,):
            raise ValueError(f"the pose of chunk {chunk} has shape {tuple(pose.shape)}; expected x, y, z, pitch, yaw")
        return pose

    def _ages(self, past: PolicyContext, candidates: Sequence[int]) -> dict[int, float]:
        """Ages from 0, the age of the reader, to 1, that of the oldest candidate or of chunk 0."""
        if self.time is None:
            return {chunk: (past.index - chunk) / past.index for chunk in candidates}
        now = float(past.noted(past.index, self.time))
        ages = {chunk: abs(now - float(past.noted(chunk, self.time))) for chunk in candidates}
        oldest = max(ages.values()) or 1.0
        return {chunk: age / oldest for chunk, age in ages.items()}
