"""kvbank: a video returns to a place, and the memory finds the chunks that showed it."""

import torch

from kvbank import KVBank, LayerKV, Rolling, SemanticSparse

PLACES = ["meadow", "meadow", "lake", "lake", "forest", "forest", "meadow"]
GENERATOR = torch.Generator().manual_seed(0)
EMBEDDINGS = {place: torch.randn(64, generator=GENERATOR) for place in ("meadow", "lake", "forest")}
POSITION = torch.cartesian_prod(torch.arange(2), torch.arange(8), torch.arange(8))


def layer() -> LayerKV:
    """Stands for one layer of a chunk. Its attention is peaked, so few tokens are salient."""
    query, key, value = torch.randn(3, 2, 4, len(POSITION), 32, generator=GENERATOR)
    return LayerKV(4 * key, value, POSITION, query=query)


for policy in (Rolling(2), SemanticSparse(top_l=2, num_recent=2, coverage=0.9)):
    bank = KVBank(policy=policy)
    for index, place in enumerate(PLACES):
        recall = bank.read(index, embedding=EMBEDDINGS[place])
        bank.write(index, [layer() for _ in range(3)], embedding=EMBEDDINGS[place])
    print(policy)
    for chunk, kind, share in zip(recall.chunks, recall.kinds, bank.trace[-1].shares, strict=True):
        print(f"  the last chunk sees chunk {chunk} ({PLACES[chunk]}, {kind}), {share:.0%} of its tokens")
    print(f"  the bank holds {bank.nbytes / 1e6:.1f} MB")

assert recall.chunks == (0, 1, 4, 5)
