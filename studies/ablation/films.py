"""What is measured of one model telling one story: drift, recall, and whether it tells what the captions say."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_bench.harness.jobs import plain_figure
from bdiff_bench.memory.colours import at_places
from bdiff_bench.memory.measures import given_chunks, measure, token_shares
from bdiff_train.transformer.story_sampler import Film, Teller
from storyworld import StoryVideo, evaluate
from studies.ablation.cells import Cell
from vde_metrics import Background, Clarity, DriftReport, GivenMasks, Motion, Subject
from vde_metrics import measure as measure_drift

DRIFTS = ("subject", "background", "motion", "clarity")
"""Metrics of Video Drift Error that are measured; the paper's fifth, aesthetic, needs weights that do not ship."""

SUBJECT_EVERY = 4
"""After the first chunk, which all are compared with, the subject is embedded in one of so many frames: a mean over
five of a chunk's twenty instead of most of the time of measuring."""

_SHOWN = ("tokens", "tokens_by_chunk", "chunks_by_chunk", "kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmJob:
    """One story to tell twice, freely and with first visits given, and to measure."""

    cell: str
    """Label."""
    seed: int
    story: int
    weights: str | None = None
    """Digest of the transformer that tells it, so that films of another training do not count as its; None: no
    transformer."""


def told_line(teller: Teller, story: StoryVideo, job: FilmJob, *, cell: Cell, window: int) -> dict[str, Any]:
    """Let a model tell a story freely and with first visits given, and measure both films.

    Args:
        teller: The model.
        story: The story of the job.
        job: Its seed makes the noise, which is the same for all cells.
        cell: How it is sampled.
        window: Chunks that a rolling window holds.

    Returns:
        See `film_line`; and what the free film was shown of the past: ``tokens`` that a layer shows to a chunk once the
        film is longer than the window, ``tokens_by_chunk``, mean over layers, ``chunks_by_chunk``, the numbers of those
        shown, and ``kept``, for each layer the share of a shown chunk's tokens; ``seconds`` of each film and of
        measuring both.
    """
    begun = time.perf_counter()
    seed = (job.seed << 32) + job.story
    free = _told(teller, story, cell, window, given=(0,), seed=seed)
    free_told = time.perf_counter()
    given = given_chunks("given", story.truth.place.tolist())
    complete = len(given) == len(story.chunk_frames)  # a story without returns: nothing would be generated
    with_visits = None if complete else _told(teller, story, cell, window, given=given, seed=seed).frames
    told = time.perf_counter()
    line = film_line(free.frames, with_visits, story, job) | _shown(teller, story, free, window)
    seconds = {"free": free_told - begun, "given": told - free_told, "measuring": time.perf_counter() - told}
    return line | {"seconds": seconds}


def _told(teller: Teller, story: StoryVideo, cell: Cell, window: int, *, given: tuple[int, ...], seed: int) -> Film:
    match cell.sampler:
        case "memory":
            return teller.tell(story, policy=cell.make_policy(), given=given, seed=seed)
        case "overlap":
            return teller.tell_without_memory(story, num_past=window, given=given, seed=seed)


def true_line(teller: Teller, story: StoryVideo, job: FilmJob) -> dict[str, Any]:
    """The same of the true film as the autoencoder shows it: how far down the errors go.

    ``forgetful`` has the figures of that film with its returns elsewhere: what measures see of forgetting alone.
    """
    begun = time.perf_counter()
    frames, elsewhere = teller.reconstruct(story), teller.reconstruct(forgetful(story))
    told = time.perf_counter()
    line = film_line(frames, frames, story, job) | dict.fromkeys(_SHOWN)
    line |= {"forgetful": film_line(elsewhere, elsewhere, story, job)}
    return line | {"seconds": {"free": told - begun, "given": 0.0, "measuring": time.perf_counter() - told}}


def forgetful(story: StoryVideo) -> StoryVideo:
    """The story with each return set in another of its places, the protagonist and all else as it was.

    A film that has forgotten every place and does nothing else wrong. Shadows of the actors are left out.
    """
    truth, places = story.truth, story.truth.place.tolist()
    first = set(given_chunks("given", places))
    back = torch.tensor([chunk not in first for chunk in range(len(places))])
    place = torch.where(back, (truth.place + 1) % len(truth.places), truth.place)
    background = at_places(truth, place).background_at(range(len(truth.chunk_of_frame))).transpose(0, 1)
    actors = (truth.subject & truth.visible[:, None, None]) | truth.companion_mask
    changed = back[truth.chunk_of_frame][:, None, None] & ~actors
    return replace(story, frames=torch.where(changed, background, story.frames))


def film_line(
    free: Float[Tensor, "3 t h w"], given: Float[Tensor, "3 t h w"] | None, story: StoryVideo, job: FilmJob
) -> dict[str, Any]:
    """Figures of two films of a story.

    Args:
        free: Its first chunk was given.
        given: All its first visits were given; None: the story has no other visits.
        story: With its truth.
        job: What the films were made for.

    Returns:
        The job; ``places``, that of each chunk, and ``new_place``, 1 in first visits and 0 in returns; ``drift``, by
        metric its published and normalised error, the score of each chunk and its `changes`; ``recall``, the colour
        error of every chunk of a return with its gap (first visits given); ``palette``, the distance to the first visit
        in the free film itself; ``captions``, shares and per-chunk figures of what is as told. What could not be
        measured is None, and so is the error of a film whose first chunk scores 0, which is infinite.

    Raises:
        ValueError: If a film is not of the story's size, or not finite.
    """
    report, places = _drift(free, story), story.truth.place.tolist()
    new = set(given_chunks("given", places))
    palettes = measure(free, story, "free")
    recalls = [] if given is None else measure(given, story, "given")
    return {
        "cell": job.cell,
        "seed": job.seed,
        "story": job.story,
        "weights": job.weights,
        "places": places,
        "new_place": [int(chunk in new) for chunk in range(len(places))],
        "drift": {
            m.name: {
                "vde": plain_figure(m.vde),
                "normalized": plain_figure(m.vde_normalized),
                "scores": [plain_figure(score) for score in m.scores],
                "changes": [plain_figure(change) for change in changes(m.scores)],
            }
            for m in report.metrics
        },
        "frozen": report.is_frozen,
        "recall": [{"chunk": r["chunk"], "gap": r["gap"], "colour": plain_figure(r["colour"])} for r in recalls],
        "palette": [{"chunk": r["chunk"], "gap": r["gap"], "palette": plain_figure(r["palette"])} for r in palettes],
        "captions": _captions(free, story),
    }


def changes(scores: Sequence[float | None]) -> list[float | None]:
    """How far each score is from the first that there is, as a share of it; None without a score, or where it is 0."""
    first = next((score for score in scores if score is not None and math.isfinite(score)), None)
    return [None if score is None or not first else abs(score - first) / abs(first) for score in scores]


def _drift(frames: Tensor, story: StoryVideo) -> DriftReport:
    """VDE with the world's own masks: where subject and companion truly are in the same frames."""
    truth = story.truth
    frame = torch.arange(len(truth.visible))
    embedded = truth.visible & ((truth.chunk_of_frame == 0) | (frame % SUBJECT_EVERY == 0))
    subject = GivenMasks(truth.subject & embedded[:, None, None])
    actors = GivenMasks(truth.subject | truth.companion_mask)
    with warnings.catch_warnings():
        # figures count such films, so no warning for each of them
        warnings.filterwarnings("ignore", ".* so their relative change is infinite", RuntimeWarning)
        return measure_drift(
            frames,
            metrics=(Subject(crops=subject), Background(subject=actors), Motion(), Clarity()),
            chunk_frames=[0, *torch.tensor(story.chunk_frames).cumsum(0).tolist()],
        )


def _captions(frames: Tensor, story: StoryVideo) -> dict[str, Any]:
    evaluation, chunk_of_frame = evaluate(frames, story), story.truth.chunk_of_frame
    chunks = range(len(story.chunk_frames))
    wanted = evaluation.should_be_visible
    seen = [evaluation.visible[wanted & (chunk_of_frame == c)].float().mean().item() for c in chunks]
    return {
        "visible": plain_figure(evaluation.visible_share),
        "direction": plain_figure(evaluation.direction_share),
        "place": plain_figure(evaluation.place_share),
        "visible_by_chunk": [plain_figure(share) for share in seen],
        "direction_by_chunk": (evaluation.direction == evaluation.true_direction).int().tolist(),
    }


def _shown(teller: Teller, story: StoryVideo, film: Film, window: int) -> dict[str, Any]:
    """The figures named in `_SHOWN`, see `told_line`."""
    stride = teller.vae.config.spatial_stride
    sides = (side // stride for side in story.frames.shape[2:])
    tokens = teller.model.config.num_tokens(teller.sampling.latent_frames, *sides)
    shares = token_shares(film.trace, tokens_per_chunk=tokens, window=window)
    by_chunk = [math.fsum(map(sum, read.spans)) / max(1, len(read.spans)) for read in film.trace]
    figures = (shares["shown"], by_chunk, [list(read.chunks) for read in film.trace], shares["kept"])
    return dict(zip(_SHOWN, figures, strict=True))
