"""Which tokens of a chunk are worth remembering (BlockVid, Algorithm 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from kvbank.inputs import check_floats

Mask = Literal["chunk", "token"]
Aggregate = Literal["sum", "cummean"]
Probes = Literal["paper", "uniform"]

# coverage * total is rounded: 0.07 * 100 is a little more than 7, and seven tokens out of a hundred do cover 7%.
_RELATIVE_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class SalienceOptions:
    """How salient tokens are scored; the arguments of `salient_tokens` beside the coverage.

    Raises:
        ValueError: If a word is unknown, no query is probed, or the budget is below 1.
    """

    num_recent_probes: int = 64
    """Probe queries from the end of the chunk."""
    num_random_probes: int = 64
    """Probe queries drawn from the rest of the chunk."""
    mask: Mask = "chunk"
    """`chunk`: every probe sees every token of its chunk. `token`: a probe sees the tokens up to itself."""
    aggregate: Aggregate = "sum"
    """`sum` as in section 3.4, `cummean` as in Algorithm 2, line 10."""
    probes: Probes = "paper"
    """`paper`: recent and random probes. `uniform`: as many drawn from the whole chunk."""
    max_tokens: int | None = None
    """A hard budget per layer beside the coverage; None: no budget."""

    def __post_init__(self) -> None:
        for name, allowed in (("mask", Mask), ("aggregate", Aggregate), ("probes", Probes)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(get_args(allowed))}")
        if min(self.num_recent_probes, self.num_random_probes) < 0 or self.num_probes < 1:
            raise ValueError(
                f"got {self.num_recent_probes} recent and {self.num_random_probes} random probes; "
                "expected no negative count and at least one probe"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; expected at least 1, or None for no budget")

    @property
    def num_probes(self) -> int:
        """How many queries are probed, if the chunk has as many."""
        return self.num_recent_probes + self.num_random_probes


def salient_tokens(
    query: Float[Tensor, "branches heads tokens dh"],
    key: Float[Tensor, "branches heads tokens dh"],
    *,
    coverage: float,
    num_recent_probes: int = 64,
    num_random_probes: int = 64,
    mask: Mask = "chunk",
    aggregate: Aggregate = "sum",
    probes: Probes = "paper",
    max_tokens: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " kept"]:
    """The tokens that receive a fraction `coverage` of the probes' attention (Algorithm 2; Eqs. 6-7).

    `mask="token", aggregate="cummean"` is Algorithm 2 to the letter. Branches (the guidance pair of one video) are
    summed like heads and share the kept set. Attention is computed in float32 whatever the inputs or autocast say.

    Args:
        query: Queries of one layer, already rotated (line 3).
        key: Keys of the same tokens, already rotated.
        coverage: Fraction of the importance to cover, in (0, 1]; see `cover_count`.
        num_recent_probes: Probe queries from the end of the chunk (line 6).
        num_random_probes: Distinct probe queries drawn from the rest. With no more tokens than probes, all are probes.
        mask: `chunk` lets tokens of one chunk see each other (section 3.4); `token` is the causal mask of line 8.
        aggregate: `sum` over branches, heads and probes, with `mask="token"` divided by the number of probes that can
            see the token; or `cummean`, the running mean of the undivided sums (line 10).
        probes: `uniform` draws as many probes from the whole chunk instead.
        max_tokens: Keep at most so many, the most important ones.
        generator: Draws the random probes; None is a generator of fixed seed, so the result is still reproducible.

    Returns:
        Ids of the kept tokens, ascending. Among equal scores the earlier token is kept.

    Raises:
        ValueError: If the shapes differ or hold no token, attention is not finite, or an option is unknown.
        TypeError: If queries or keys are no tensors of floating numbers.
    """
    _check_pair(query, key)
    options = SalienceOptions(
        num_recent_probes=num_recent_probes,
        num_random_probes=num_random_probes,
        mask=mask,
        aggregate=aggregate,
        probes=probes,
        max_tokens=max_tokens,
    )
    return _selected(query, key, coverage=coverage, options=options, generator=generator)


def _selected(
    query: Float[Tensor, "branches heads tokens dh"],
    key: Float[Tensor, "branches heads tokens dh"],
    *,
    coverage: float,
    options: SalienceOptions,
    generator: torch.Generator | None,
) -> Int[Tensor, " kept"]:
    """Algorithm 2 with its options in one object; see `salient_tokens`."""
    probe = _probe_ids(query.shape[2], options, generator)
    importance = _importance(query, key, probe, options)
    count = min(cover_count(importance, coverage), options.max_tokens or importance.numel())
    order = torch.sort(importance, descending=True, stable=True).indices
    return order[:count].sort().values.to(key.device)


def cover_count(scores: Num[Tensor, " n"] | Sequence[float | int], coverage: float) -> int:
    """CoverCount: the smallest M whose M largest scores sum to at least `coverage` times the total (Eq. 7).

    Sums are float64 with a relative slack of 1e-9, so that rounding never asks for one token more. A coverage of 1
    keeps exactly the scores above zero. The count is at least 1, even if all scores are zero.

    Args:
        scores: Importance of each token, not negative.
        coverage: Fraction in (0, 1].

    Raises:
        ValueError: If there are no scores, one is negative or not finite, or the coverage is no such fraction.
    """
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage is {coverage}; expected a fraction in (0, 1]")
    if not isinstance(scores, Tensor):
        scores = torch.tensor(scores, dtype=torch.float64)
    scores = scores.detach().to("cpu", torch.float64)
    if scores.ndim != 1 or scores.numel() == 0:
        raise ValueError(f"scores have shape {tuple(scores.shape)}; expected one axis with at least one score")
    if not bool(torch.isfinite(scores).all()) or bool((scores < 0).any()):
        raise ValueError("scores hold a negative or non-finite value; expected importances such as sums of attention")
    if coverage == 1.0:
        return max(1, int((scores > 0).sum()))
    covered = scores.sort(descending=True).values.cumsum(0)
    enough = covered >= coverage * covered[-1] * (1.0 - _RELATIVE_SLACK)
    return int(enough.int().argmax()) + 1


def _check_pair(query: Any, key: Any) -> None:
    check_floats(query, "query")
    check_floats(key, "key")
    if query.ndim != 4 or query.shape != key.shape or query.shape[2] == 0:
        raise ValueError(
            f"query is {tuple(query.shape)} and key {tuple(key.shape)}; "
            "expected the same shape [branches, heads, tokens, dh] with at least one token"
        )


def _probe_ids(tokens: int, options: SalienceOptions, generator: torch.Generator | None) -> Int[Tensor, " probes"]:
    """The queries that vote, ascending (Algorithm 2, line 6)."""
    if tokens <= options.num_probes:
        return torch.arange(tokens)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    rest, count = tokens, options.num_probes
    if options.probes == "paper":
        rest, count = tokens - options.num_recent_probes, options.num_random_probes
    drawn = torch.randperm(rest, generator=generator, device=generator.device)[:count].cpu()
    if options.probes == "paper":
        drawn = torch.cat([drawn, torch.arange(rest, tokens)])
    return drawn.sort().values


@torch.no_grad()
def _importance(
    query: Float[Tensor, "branches heads tokens dh"],
    key: Float[Tensor, "branches heads tokens dh"],
    probe: Int[Tensor, " probes"],
    options: SalienceOptions,
) -> Float[Tensor, " tokens"]:
    """Attention that each token receives, aggregated (Algorithm 2, lines 7-10); float64 on the CPU."""
    tokens = key.shape[2]
    hidden = torch.arange(tokens) > probe[:, None]
    total = torch.zeros(tokens, dtype=torch.float64)
    at = probe.to(query.device)
    with torch.autocast(key.device.type, enabled=False):
        # One branch at a time: the attention of a real model's chunk is the largest tensor here.
        for branch_query, branch_key in zip(query, key, strict=True):
            logits = branch_query[:, at].float() @ branch_key.float().mT * key.shape[3] ** -0.5
            if options.mask == "token":
                logits.masked_fill_(hidden.to(logits.device), -torch.inf)
            total += logits.softmax(-1).sum((0, 1)).to("cpu", torch.float64)
    if options.aggregate == "cummean":
        return total.cumsum(0) / torch.arange(1, tokens + 1)
    if options.mask == "token":
        return total / (~hidden).sum(0).clamp(min=1)
    return total
