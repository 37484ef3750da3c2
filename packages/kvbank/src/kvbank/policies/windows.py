"""Policies of the last chunks, by chunks or by latent frames, with or without the first ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import ClassVar, Protocol, runtime_checkable

from kvbank.kinds import Kind
from kvbank.policies.standard import Policy, Similarity, check_count, last_chunks


@runtime_checkable
class FramePolicy(Policy, Protocol):
    """A policy that may show single latent frames of the chunks that it selects."""

    def shown_frames(self, index: int, frames: Mapping[int, int]) -> dict[int, set[int]] | None:
        """Which latent frames of its chunks chunk `index` sees.

        Args:
            index: The chunk that reads.
            frames: Latent frames of each selected chunk that is held.

        Returns:
            Frames of each chunk, counted from 0 in the chunk; a chunk that is missing is not shown. None: all chunks
            that `select` gives are shown whole.
        """


@dataclass(frozen=True, slots=True, repr=False)
class Rolling:
    """The last chunks, whole, or the last latent frames: Table 5's rolling KV, as in Self Forcing (arXiv 2506.08009).

    The ``local_attn_size`` of Self Forcing's code counts the frames of the chunk that reads, too: with 12 and chunks of
    3 frames it is ``Rolling(3)`` or ``Rolling(frames=9)``. By frames a chunk may be shown in part.

    Raises:
        ValueError: If a count is below 1, or not exactly one of chunks and frames is given.
        TypeError: If a count is no integer.
    """

    num_chunks: int | None = None
    """Chunks right before the current one."""
    _: KW_ONLY
    frames: int | None = None
    """Latent frames right before the current chunk, instead of chunks."""
    frames_per_chunk: int = 1
    """With `frames`: latent frames that every chunk but the first has at least. The more, the sooner chunks go."""

    coverage: ClassVar[None] = None
    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_unit("num_chunks", self.num_chunks, "frames", self.frames, least=1)
        check_count("frames_per_chunk", self.frames_per_chunk, least=1)

    def __repr__(self) -> str:
        return _as_called(self)

    @property
    def window(self) -> int:
        """Chunks of the window; by frames, the most that it may reach into."""
        return _chunks_of(self.num_chunks, self.frames, self.frames_per_chunk)

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """The chunks of the window; by frames, those that it may reach into."""
        return tuple(last_chunks(index, self.window))

    def shown_frames(self, index: int, frames: Mapping[int, int]) -> dict[int, set[int]] | None:
        """Which latent frames of the selected chunks are shown; None: all of them. See `FramePolicy`."""
        if self.frames is None:
            return None
        return last_frames(self.select(index), frames, self.frames, least=self.frames_per_chunk)

    def kind(self, index: int, chunk: int) -> Kind:
        """Always `recent`."""
        return "recent"

    def retains(self, index: int, chunk: int) -> bool:
        """The chunks of the window."""
        return chunk >= index - self.window


@dataclass(frozen=True, slots=True, repr=False)
class Sink:
    """The first chunks and the last ones: the frame sink of LongLive and the attention sink of Rolling Forcing.

    Both (arXiv 2509.22622 and 2509.25161) take StreamingLLM's sink (arXiv 2309.17453) from text to video. Rolling
    Forcing re-positions it next to the window, which is what slots do. Chunks are shown whole. By latent frames
    (`frames` and `window_frames`) a chunk may be shown in part. LongLive's ``local_attn_size`` counts the sink and the
    chunk that reads: 12, with 3 frames of sink and 3 a chunk, is ``Sink(1, 2)`` or ``Sink(frames=3, window_frames=6)``.

    Raises:
        ValueError: If a count is negative, or not both counts of chunks or both of frames are given.
        TypeError: If a count is no integer.
    """

    num_sink: int | None = None
    """Chunks from the start of the video that every chunk sees."""
    num_recent: int | None = None
    """Chunks right before the current one."""
    _: KW_ONLY
    frames: int | None = None
    """Latent frames from the start of the video, instead of chunks."""
    window_frames: int | None = None
    """Latent frames right before the current chunk, beside those of the sink."""
    frames_per_chunk: int = 1
    """With frames: latent frames that every chunk but the first has at least. The more, the sooner chunks are freed."""

    coverage: ClassVar[None] = None
    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_unit("num_sink", self.num_sink, "frames", self.frames)
        check_unit("num_recent", self.num_recent, "window_frames", self.window_frames)
        check_count("frames_per_chunk", self.frames_per_chunk, least=1)
        if (self.frames is None) != (self.window_frames is None):
            raise ValueError(
                f"{self} mixes chunks and frames; give num_sink and num_recent, or frames and window_frames"
            )

    def __repr__(self) -> str:
        return _as_called(self)

    @property
    def window(self) -> int:
        """Chunks of the window; by frames, the most that it may reach into."""
        return _chunks_of(self.num_recent, self.window_frames, self.frames_per_chunk)

    @property
    def sink(self) -> int:
        """Chunks of the sink; by frames, the most that it may reach into: the first chunk may have one frame."""
        if self.frames is None:
            return _chunks_of(self.num_sink, None, 1)
        return min(1, self.frames) + _chunks_of(None, max(0, self.frames - 1), self.frames_per_chunk)

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """The chunks of sink and window, each once; by frames, those that they may reach into."""
        recent = last_chunks(index, self.window)
        return (*range(min(self.sink, recent.start)), *recent)

    def shown_frames(self, index: int, frames: Mapping[int, int]) -> dict[int, set[int]] | None:
        """Which latent frames of the selected chunks are shown; None: all of them. See `FramePolicy`."""
        if self.frames is None or self.window_frames is None:
            return None
        sink = first_frames(range(min(self.sink, index)), frames, self.frames)
        window = last_frames(last_chunks(index, self.window), frames, self.window_frames, least=self.frames_per_chunk)
        return {chunk: sink.get(chunk, set()) | window.get(chunk, set()) for chunk in {**sink, **window}}

    def kind(self, index: int, chunk: int) -> Kind:
        """`recent` or `sink`; a chunk that is both is recent."""
        return "recent" if chunk >= index - self.window else "sink"

    def retains(self, index: int, chunk: int) -> bool:
        """The sink and the window."""
        return chunk < self.sink or chunk >= index - self.window


def last_frames(chunks: Sequence[int], frames: Mapping[int, int], count: int, *, least: int) -> dict[int, set[int]]:
    """The last `count` latent frames of a window of chunks: which frames of each chunk, counted from 0.

    Args:
        chunks: The chunks that the window may reach into, ascending.
        frames: Latent frames of each; one that is missing is taken to have `least`.
        count: Latent frames of the window.
        least: Latent frames that every chunk but the first was said to have at least.

    Raises:
        ValueError: If a chunk has fewer, so that the window would reach further back than chunks were kept.
    """
    shown: dict[int, set[int]] = {}
    for chunk in reversed(chunks):
        length = frames.get(chunk, least)
        if chunk and length < least:
            raise ValueError(f"chunk {chunk} has {length} latent frames; frames_per_chunk says at least {least}")
        own = min(count, length)
        if own:
            shown[chunk] = set(range(length - own, length))
        count -= own
    return shown


def first_frames(chunks: Sequence[int], frames: Mapping[int, int], count: int) -> dict[int, set[int]]:
    """The first `count` latent frames of a video: which frames of each chunk, counted from 0; see `last_frames`."""
    shown: dict[int, set[int]] = {}
    for chunk in chunks:
        own = min(count, frames.get(chunk, 1))
        if own:
            shown[chunk] = set(range(own))
        count -= own
    return shown


def _as_called(policy: Rolling | Sink) -> str:
    """The call that makes a policy, without what is left at its default."""
    given = (
        (one.name, getattr(policy, one.name)) for one in fields(policy) if getattr(policy, one.name) != one.default
    )
    return f"{type(policy).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"


def _chunks_of(chunks: int | None, frames: int | None, frames_per_chunk: int) -> int:
    """A number of chunks, or else the most chunks that so many latent frames reach into."""
    return math.ceil((frames or 0) / frames_per_chunk) if chunks is None else chunks


def check_unit(by_chunks: str, chunks: int | None, by_frames: str, frames: int | None, *, least: int = 0) -> None:
    """Raise an error unless exactly one of two counts is given, and is an integer of at least `least`."""
    if (chunks is None) == (frames is None):
        raise ValueError(f"{by_chunks} is {chunks} and {by_frames} is {frames}; give one of them")
    if chunks is not None:
        check_count(by_chunks, chunks, least=least)
    else:
        assert frames is not None
        check_count(by_frames, frames, least=least)
