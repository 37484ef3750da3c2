"""An ablation's figures as Markdown: the claim first, then the tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bdiff.output import markdown_table
from studies.ablation.configurations import BASE, BASELINE, CONFIGURATIONS, OURS, TRUTH
from studies.ablation.figures import AGAINST, CLAIMED, MEASURES, tables_of
from studies.ablation.tables import difference_text, interval_text
from studies.ablation.videos import DRIFTS

_HEADINGS = {
    "5": (
        "Table 5: the cache",
        "Every configuration but the first has both losses. They differ in what a chunk is shown of the past. The "
        "first has no cache: each chunk is denoised beside the last four, which are encoded again at every step. It is "
        "post-trained by flow matching alone, because Self Forcing is not defined here for overlapping windows. So its "
        "difference is not due to the cache alone.",
    ),
    "6": (
        "Table 6: the losses",
        "Every configuration but the last is shown the past by the semantic sparse cache at 0.98. They differ in the "
        "loss. All post-training began with the first; the claim compares with the last.",
    ),
    "sweep": (
        "Weights of the losses",
        "Both losses with the semantic sparse cache at 0.98, where gamma is 1, w is 0.1 and the weight of the "
        "adversarial loss of Eq. 1 is 0.05.",
    ),
}
_AESTHETIC = (
    "**VDE aesthetic is not measured.** It needs a learned predictor, whose weights do not come with this project, and "
    "nothing replaces it."
)
_HEAD_START = (
    "**Head start**: a base that was trained with the policy of some configurations favours them, as the shipped model "
    "does the semantic ones. The others have only these steps to adapt to their own policy."
)
_FEW_SEEDS, _FEW_STORIES = 3, 16
_COLUMNS = (*DRIFTS, "recall", "recall_within", "palette", "visible", "direction", "place")


def ablation_parts(summary: Mapping[str, Any], *, pictures: Mapping[str, str]) -> list[str]:
    """Paragraphs and tables of a summary.

    Args:
        summary: What `bench_ablation` returns.
        pictures: Links of plots, by the names that `draw` gives them.
    """
    parts = [
        *_claim(summary),
        *_forgetting(summary),
        *_missing(summary),
        "## What was done",
        _setting(summary),
        _HEAD_START,
        _AESTHETIC,
    ]
    for table, labels in tables_of(summary).items():
        heading, explanation = _HEADINGS[table]
        parts += [f"## {heading}", explanation, _table(summary, labels)]
        for other in (OURS, BASE) if table == "6" else (OURS,):
            parts += _differences(summary, labels, other)
        for kind, alt in (("intervals", "Means and intervals"), ("curves", "Drift by chunk")):
            if link := pictures.get(f"{table}-{kind}"):
                parts.append(f"![{heading}: {alt}]({link})")
    return [*parts, *_infinite(summary), *_seeds(summary), *_costs(summary)]


def _claim(summary: Mapping[str, Any]) -> Iterator[str]:
    found = summary["claim"]
    yield (
        f"**Claim**: semantic sparse KV with Block Forcing and Self Forcing (`{OURS}`) drifts less in subject, "
        f"background and clarity, and recalls places with less error, than rolling KV with Self Forcing "
        f"(`{BASELINE}`), with 95% intervals that do not meet."
    )
    if found["holds"] is None:
        absent = " and ".join(f"`{label}`" for label in found["missing"])
        reason = f"there is no complete run of {absent}" if absent else "the two configurations have no seed in common"
        yield f"**Not measured yet**: {reason}."
        return
    yield _verdict(found, stories=summary["stories"])
    words = {"below": "lower", "above": "**higher**", "overlap": "neither: intervals overlap", "unmeasured": "–"}
    yield markdown_table(
        ["measure", "ours", "rolling, Self Forcing", "difference (paired)", "ours is"],
        [
            [
                MEASURES[name].title,
                *(interval_text(row[of]) for of in ("ours", "baseline", "difference")),
                words[row["verdict"]],
            ]
            for name, row in found["measures"].items()
        ],
    )
    true = summary["cells"].get(TRUTH, {}).get("measures", {})
    above = [
        f"{MEASURES[name].title} ({true[name]['mean']:.4g})"
        for name, row in found["measures"].items()
        if name in true and any(row[of] and row[of]["mean"] < true[name]["mean"] for of in ("ours", "baseline"))
    ]
    if above:
        yield (
            f"**The true videos have more** than one of the two in {', '.join(above)}: places differ, and a video that "
            "shows them alike or softer has less. There, less is not nearer to the truth."
        )


def _forgetting(summary: Mapping[str, Any]) -> Iterator[str]:
    """How much the measures change by forgetting alone."""
    if not (found := summary["forgetting"]):
        return
    yield (
        "**How much a measure changes by forgetting**: the true videos again, with another place of the story on every "
        "return and all else as it was. They have forgotten every place. A measure that barely changes does not "
        "show it."
    )
    rows = [
        [
            MEASURES[name].title,
            interval_text(row["true"]),
            interval_text(row["forgetful"]),
            difference_text(row["difference"], summary["stories"]),
            "–" if not (row["true"] and row["forgetful"]) else f"{row['forgetful']['mean'] / row['true']['mean']:.2f}",
        ]
        for name, row in found.items()
        if name in (*DRIFTS, "recall", "palette")
    ]
    yield markdown_table(["measure", "true videos", "wrong places", "difference (paired)", "times as much"], rows)


def _verdict(found: Mapping[str, Any], *, stories: int) -> str:
    measures, seeds = found["measures"], found["seeds"]
    of = f"on {_count(len(seeds), 'seed')} and {_count(stories, 'story', 'stories')}"
    if len(seeds) < _FEW_SEEDS or stories < _FEW_STORIES:
        of += ", which are too few to rest on"
    if found["holds"]:
        return f"**It holds** {of}: all {len(measures)} are lower, and no intervals overlap."
    by_verdict = {
        kind: [MEASURES[name].title for name, row in measures.items() if row["verdict"] == kind]
        for kind in ("below", "overlap", "above", "unmeasured")
    }
    said = {
        "above": "higher, the opposite of what is claimed: ",
        "overlap": "intervals overlap, so that nothing is shown: ",
        "below": "lower, as claimed: ",
        "unmeasured": "too few stories to say: ",
    }
    parts = "; ".join(words + ", ".join(by_verdict[kind]) for kind, words in said.items() if by_verdict[kind])
    return f"**It does not hold** {of}. {parts[0].upper()}{parts[1:]}."


def _missing(summary: Mapping[str, Any]) -> Iterator[str]:
    if not summary["missing"]:
        return
    total = len(summary["seeds"])
    named = [
        f"`{label}` " + ("(no seed)" if len(seeds) == total else f"(seed {', '.join(map(str, seeds))})")
        for label, seeds in summary["missing"].items()
    ]
    yield f"**Missing**: {', '.join(named)}. The same command goes on with them."


def _setting(summary: Mapping[str, Any]) -> str:
    config = summary["config"]
    training, sampling = config["training"], config["sampling"]
    bases = {config["bases"][str(seed)] for seed in summary["seeds"]}
    base = "one base for all seeds" if len(bases) == 1 else f"{len(bases)} bases, one for each seed"
    return (
        f"Post-training of {training['steps']} steps of the transformer on batches of {training['batch']} stories out "
        f"of {training['stories']}, the same videos and noise for every configuration of a seed; rate "
        f"{training['learning_rate']:g}, halved in the second half; {_count(len(summary['seeds']), 'seed')}, {base}. "
        f"The videos that a discriminator sees have {training['film_chunks']} chunks of "
        f"{training['film_steps']} steps. Each configuration is shown four past chunks at most, in training and in "
        f"sampling. Then {_count(summary['stories'], 'held-out story', 'held-out stories')} of {config['num_chunks']} "
        f"chunks, {sampling['steps']} steps, shift {sampling['shift']:g}, guidance {sampling['guidance']:g}, "
        f"{sampling['noise']} noise, richness {sampling['richness']}; the noise of a story is the same for all. "
        "Means are over videos (recall and palette: over chunks), seeds together; intervals are bootstrap 95% over "
        "stories, drawn alike for all configurations. VDE is the weighted sum as published, with the world's true "
        f"masks. The runs were made by {_machines(summary['machines'])}; commits "
        f"{', '.join(f'`{commit[:12]}`' for commit in summary['commits']) or 'unknown'}."
    )


def _machines(machines: Sequence[Mapping[str, Any]]) -> str:
    named = dict.fromkeys(f"bdiff {one['bdiff']}, torch {one['torch']} on {one['processor']}" for one in machines)
    return "; ".join(named) or "an unknown machine"


def _table(summary: Mapping[str, Any], labels: tuple[str, ...]) -> str:
    heads = [MEASURES[name].title + (" ↓" if MEASURES[name].less_is_better else " ↑") for name in _COLUMNS]
    rows = []
    for label in (*labels, TRUTH):
        title = "*the true videos*" if label == TRUTH else CONFIGURATIONS[label].title
        configuration = summary["cells"].get(label)
        if configuration is None:
            rows.append([title, "0", "missing", *[""] * len(heads)])
            continue
        values = [interval_text(configuration["measures"].get(name)) for name in _COLUMNS]
        tokens = "–" if configuration["tokens"] is None else f"{configuration['tokens']:.0f}"
        seeds = "–" if label == TRUTH else str(len(configuration["seeds"]))
        rows.append([title, seeds, *values, tokens])
    return markdown_table(["configuration", "seeds", *heads, "tokens shown"], rows)


def _differences(summary: Mapping[str, Any], labels: tuple[str, ...], other: str) -> Iterator[str]:
    """The differences of configurations to one of `AGAINST`."""
    rows = []
    for label in labels:
        found = summary["cells"].get(label, {}).get(AGAINST[other])
        if found is not None:
            values = [difference_text(found.get(name), summary["stories"]) for name in _COLUMNS]
            rows.append([CONFIGURATIONS[label].title, *values])
    if rows:
        yield (
            f"Difference to `{other}`, paired by story on the seeds that both have: above 0, the configuration has "
            "more. Bold where the interval leaves 0 out."
        )
        yield markdown_table(["configuration", *(MEASURES[name].title for name in _COLUMNS)], rows)


def _infinite(summary: Mapping[str, Any]) -> Iterator[str]:
    named = [
        f"`{label}` {metric} {count}"
        for label, configuration in summary["cells"].items()
        for metric, count in configuration["infinite"].items()
        if count
    ]
    if named:
        yield (
            f"**Left out**: videos whose first chunk scores 0, so that their error is infinite: {', '.join(named)}. "
            "Means and intervals of these configurations are over the other videos."
        )


def _seeds(summary: Mapping[str, Any]) -> Iterator[str]:
    """The means of each seed, because intervals over stories do not cover another post-training."""
    configurations = {
        label: configuration
        for label, configuration in summary["cells"].items()
        if label != TRUTH and len(configuration["seeds"]) > 1
    }
    if not configurations:
        return
    yield "## Seeds side by side"
    yield "The intervals above are over stories alone; these means show how far one post-training is from another."
    rows = []
    for label, configuration in configurations.items():
        by_seed = [configuration["measures"].get(name, {}).get("by_seed", []) for name in CLAIMED]
        values = [", ".join("–" if mean is None else f"{mean:.4f}" for mean in means) or "–" for means in by_seed]
        rows.append([CONFIGURATIONS[label].title, *values])
    yield markdown_table(["configuration", *(MEASURES[name].title for name in CLAIMED)], rows)


def _costs(summary: Mapping[str, Any]) -> Iterator[str]:
    if not summary["cells"]:
        return
    yield "## Time and loss"
    yield (
        "Wall time of two videos of each story and their measuring, with other work on the machine included. The "
        "held-out loss is each configuration's own on real videos, with Eq. 5 where it has that. It compares seeds, "
        "not configurations."
    )
    rows = []
    for label, configuration in summary["cells"].items():
        title = "*the true videos*" if label == TRUTH else CONFIGURATIONS[label].title
        minutes = "–" if configuration["training_seconds"] is None else f"{configuration['training_seconds'] / 60:.1f}"
        loss = "–" if configuration["held_out_loss"] is None else f"{configuration['held_out_loss']:.4f}"
        rows.append([title, minutes, f"{configuration['film_seconds']:.1f}", loss, str(configuration["frozen"])])
    yield markdown_table(
        ["configuration", "post-training (min)", "videos of a story (s)", "held-out loss", "frozen videos"], rows
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
