"""How well a model tells stories whose truth is known.

Every held-out story is sampled with its first chunk given (so that the model knows the protagonist's looks) and judged
by the world's truth. A line of JSON a story is kept as it is finished, so a stopped run goes on where it was.
"""

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import storyworld
from bdiff.defaults import Sampling
from bdiff.files.whole import write_whole
from bdiff.output.markdown import markdown_table
from bdiff_bench.harness.jobs import append_lines, plain_figure, read_lines, run_jobs
from bdiff_bench.harness.recipe import check_recipe, keep_recipe, model_recipe
from bdiff_bench.memory.figures import GROWN, GROWTH_FROM, Trend, draw_stories
from bdiff_bench.memory.measures import measure
from bdiff_core import SentenceTextEncoder, TextEncoder
from bdiff_train.data.stories import past_similarity
from bdiff_train.transformer.story_sampler import FIRST_STORY, Teller, sampling_of
from kvbank import Policy
from storyworld import plan_story
from vde_metrics import Clarity

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldBenchConfig:
    """What is sampled and measured."""

    out: Path
    """Directory of the lines and the summary."""
    model: Path
    """Folder with transformer/, vae.safetensors and sampling.json."""
    num_stories: int = 32
    num_chunks: int = 25
    num_steps: int | None = None
    """Denoising steps a chunk; None: as the model wants it."""
    guidance: float | None = None
    """Classifier-free guidance, 1 for none; None: as the model wants it."""
    seniority: float | None = None
    """Of the semantic memory, see `kvbank.SemanticSparse`; None: as the model wants it."""
    num_sink: int | None = None
    """Of the semantic memory; None: as the model wants it."""
    seed: int = 0
    richness: int | None = None
    """Of the stories; None: that which the model knows."""
    workers: int = 2
    """Processes, each on one core."""

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled."""
        return sampling_of(
            self.model,
            steps=self.num_steps,
            guidance=self.guidance,
            seniority=self.seniority,
            num_sink=self.num_sink,
            richness=self.richness,
        )

    @property
    def policy(self) -> Policy:
        """The memory."""
        return self.sampling.memory()

    @property
    def stories(self) -> range:
        """Seeds of the stories."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    @property
    def lines(self) -> Path:
        """The file with a line a story."""
        return self.out / "stories.jsonl"

    def recipe(self) -> dict[str, Any]:
        """What a story's line depends on."""
        return model_recipe(self.model, self.sampling) | {"num_chunks": self.num_chunks, "seed": self.seed}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryScore:
    """One story's figures."""

    story: int
    visible: float
    """Share of the frames that should show the protagonist in which it is found."""
    direction: float
    """Share of the chunks whose direction of motion is as told."""
    place: float
    """Share of the returns to a place that show it again; nan without returns."""
    clarity_ratio: float
    """Clarity of the last four chunks over that of chunks 2 to 5."""
    true_clarity_ratio: float
    """The same of the truth: places differ in sharpness."""
    clarity_to_truth: float
    """Clarity of the generated chunks over that of the same chunks of the truth."""
    returns: tuple[Mapping[str, float | None], ...]
    """Of each chunk of a later visit its number, how far its palette is from that of the film's own first visit, and
    the error of the protagonist's colours; in [0, 1], None where there is nothing to measure."""
    true_returns: tuple[Mapping[str, float | None], ...]
    """The same of the true film, as the autoencoder shows it: chunks differ in what they show, too."""


_MEANING = {
    "visible": "frames that show the protagonist, of those that should",
    "direction": "chunks whose direction of motion is as told",
    "place": "returns on which a place looks like its first showing",
    "clarity_ratio": "clarity of the last four chunks over that of chunks 2 to 5",
    "true_clarity_ratio": "the same ratio of the true films",
    "clarity_to_truth": "clarity over that of the true films",
}
_GROWTH_MEANING = {
    "palette": "growth of the distance between the palettes of a return and of the first showing",
    "subject": "growth of the error of the protagonist's colours",
}
_BEYOND = "beyond_true"
"""Ends the name of a growth from which that of the true films was taken off."""


def bench_world(config: WorldBenchConfig) -> dict[str, Any]:
    """Sample and judge the stories that have no line yet; write and return the summary.

    Raises:
        ValueError: If the folder holds figures of another recipe; `check` finds out what else may be wrong.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    keep_recipe(config.lines, config.recipe())
    done = {line["story"] for line in read_lines(config.lines)}
    todo = [story for story in config.stories if story not in done]
    for line in append_lines(config.lines, run_jobs(todo, config, load=_load, work=_score, workers=config.workers)):
        logger.info("%s", line)
    sampling = config.sampling
    used = {
        "num_steps": sampling.steps,
        "shift": sampling.shift,
        "guidance": sampling.guidance,
        "noise": sampling.noise,
        "seniority": sampling.seniority,
        "num_sink": sampling.num_sink,
        "richness": sampling.richness,
    }
    told = [line for line in read_lines(config.lines) if line["story"] in config.stories]
    summary = summarise(told, num_chunks=config.num_chunks) | {
        "retrieval": retrieval_share(
            SentenceTextEncoder(),
            config.policy,
            config.stories,
            num_chunks=config.num_chunks,
            companions=sampling.richness > 1,
        ),
        "config": {name: str(value) for name, value in (asdict(config) | used).items()},
    }
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(config.out / "summary.md", world_table(summary))
    return summary


def check(config: WorldBenchConfig) -> None:
    """Load the model and render a chunk, to find out now what is not usable.

    Raises:
        ValueError: If a setting or a file is not valid, or the folder holds figures of another recipe.
        OSError: If a file cannot be read.
    """
    _, teller = _load(config)
    teller.story(FIRST_STORY, 1)
    check_recipe(config.lines, config.recipe())


def world_table(summary: dict[str, Any]) -> str:
    """The figures of a summary as a Markdown table."""
    rows = []
    for name, figure in summary["figures"].items():
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        rows.append([_MEANING[name], f"{figure['mean']:.3f}", interval, f"{figure['least']:.3f}"])
    for name, figure in summary["growth"].items():
        interval = f"{figure['low']:+.4f} to {figure['high']:+.4f}"
        measure, _, beyond = name.partition("_")
        meaning = f"{_GROWTH_MEANING[measure]}, chunk {GROWTH_FROM} to the last"
        meaning += ", beyond that of the true films through the autoencoder" if beyond else ""
        rows.append([meaning, f"{figure['mean']:+.4f}", interval, ""])
    found = summary["retrieval"]
    share = "" if found["share"] is None else f"{found['share']:.3f}"
    rows.append([f"{found['returns']} returns: an older chunk in view shows the place", share, "", ""])
    return markdown_table([f"over {summary['stories']} stories", "mean", "95% interval", "least"], rows) + "\n"


def summarise(lines: list[dict[str, Any]], *, num_chunks: int) -> dict[str, Any]:
    """Mean of every figure over the stories with its bootstrap 95% interval, and what grows over a film."""
    lines = sorted(lines, key=lambda line: line["story"])  # kept as workers finish, and draws go by order
    figures = {}
    for name in _MEANING:
        values = np.array([line[name] for line in lines if line[name] == line[name]])
        if not len(values):  # no story had a return to a place, say
            continue
        draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
        low, high = np.quantile(draws, (0.025, 0.975))
        figures[name] = {
            "mean": float(values.mean()),
            "low": float(low),
            "high": float(high),
            "least": float(values.min()),
        }
    return {"stories": len(lines), "figures": figures, "growth": _growth(lines, num_chunks)}


def _growth(lines: list[dict[str, Any]], num_chunks: int) -> dict[str, dict[str, float]]:
    """How much palettes and protagonists go wrong between chunk `GROWTH_FROM` and the last, with intervals."""
    figures, draws = {}, draw_stories(len(lines))
    for name in GROWN:
        made, true = (Trend.of([line[films] for line in lines], name) for films in ("returns", "true_returns"))
        figures[name] = made.figure(num_chunks, draws)
        figures[f"{name}_{_BEYOND}"] = made.figure(num_chunks, draws, beyond=true)
    return {name: figure for name, figure in figures.items() if figure is not None}


def retrieval_share(
    encoder: TextEncoder,
    policy: Policy,
    stories: Sequence[int],
    *,
    num_chunks: int = 25,
    companions: bool = False,
) -> dict[str, float | None]:
    """How often the memory recalls the right place: returns to a place that no recent chunk shows.

    Returns:
        The number of such returns, and the share of them on which an older chunk in view shows the place; None
        without any.
    """
    right, returns = 0, 0
    for seed in stories:
        planned = plan_story(seed, num_chunks, companions=companions).chunks
        embedding = encoder.encode([each.caption for each in planned]).embedding
        for chunk, each in enumerate(planned):
            seen = policy.select(chunk, past_similarity(embedding[: chunk + 1]))
            older = [c for c in range(chunk) if policy.kind(chunk, c) != "recent"]
            recent = {planned[c].place for c in range(len(older), chunk)}
            if each.place in {planned[c].place for c in older} - recent:
                returns += 1
                right += any(planned[c].place == each.place for c in seen if c in older)
    return {"returns": returns, "share": right / returns if returns else None}


def score_story(config: WorldBenchConfig, story_seed: int, teller: Teller) -> StoryScore:
    """Sample one story and evaluate it."""
    story = teller.story(story_seed, config.num_chunks)
    frames = teller.tell(story, policy=config.policy, seed=config.seed + story_seed).frames
    evaluation = storyworld.evaluate(frames, story)
    made, true = clarity_curve(frames, story), clarity_curve(story.frames, story)
    return StoryScore(
        story=story_seed,
        visible=evaluation.visible_share,
        direction=evaluation.direction_share,
        place=evaluation.place_share,
        clarity_ratio=statistics.mean(made[-4:]) / statistics.mean(made[1:5]),
        true_clarity_ratio=statistics.mean(true[-4:]) / statistics.mean(true[1:5]),
        clarity_to_truth=statistics.mean(made[1:]) / statistics.mean(true[1:]),
        returns=_returns(frames, story),
        true_returns=_returns(teller.reconstruct(story), story),
    )


def _returns(frames: torch.Tensor, story: storyworld.StoryVideo) -> tuple[dict[str, float | None], ...]:
    return tuple(
        {"chunk": record["chunk"]} | {name: plain_figure(record[name]) for name in GROWN}
        for record in measure(frames, story, "free")
    )


def clarity_curve(frames: torch.Tensor, story: storyworld.StoryVideo) -> list[float]:
    """Clarity of each chunk."""
    pixels = frames.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)
    return [Clarity().score(chunk.contiguous()) for chunk in pixels.split(list(story.chunk_frames))]


def _load(config: WorldBenchConfig) -> tuple[WorldBenchConfig, Teller]:
    teller = Teller.load(config.model, transformer=config.model / "transformer", sampling=config.sampling)
    return config, teller


def _score(parts: tuple[WorldBenchConfig, Teller], story_seed: int) -> dict[str, Any]:
    config, teller = parts
    return asdict(score_story(config, story_seed, teller))
