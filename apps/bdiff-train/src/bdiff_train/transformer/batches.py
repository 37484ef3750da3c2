"""Training batches: the chunks that the memory would show a target chunk, and several noisy copies of the target.

A sample is ``[context, oldest first | noisy copies of the target]``. Each context chunk sees the context chunks before
it. A noisy copy sees the context and itself. Positions are slots, as in sampling, so a sample is as long for the
hundredth chunk of a video as for the fifth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bdiff_core.attention import Gather
from bdiff_train.data.stories import StorySet
from forcing_losses import interpolate, semantic_reference
from kvbank import Policy
from noisesched import sample_levels

_SAME_SCENE = 0.03
"""Median difference of the latents below which two chunks show the same scene. In storyworld it is below 0.012 for two
visits to one place and from 0.066 on for two places."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """Sizes and probabilities of a batch."""

    stories: int = 8
    """Number of samples, each of one story and one target chunk."""
    copies: int = 4
    """Noisy copies of the target, each at a level of its own."""
    context: int = 4
    """Places for context chunks; a policy that shows more is an error."""
    early_share: float = 0.5
    """Share of the targets drawn from the first third of a story, where places are seen for the first time."""
    text_dropout: float = 0.1
    """Share of samples without any text, for guidance."""
    token_drop: float = 0.1
    """Probability that a context token is hidden (p_drop of BlockVid Alg. 1)."""
    context_noise: float = 0.3
    """Largest standard deviation of the noise on context latents, so that the model tolerates errors there."""
    estimated_share: float = 0.0
    """Share of samples that see estimates of their context, see `with_estimated_context`."""
    estimated_passes: int = 1
    """Largest number of passes for a batch; each further pass estimates the estimates, as for late chunks."""
    tint: float = 0.0
    """Largest standard deviation of the false colours that estimates get, except for the anchor, see
    `with_estimated_context`. Videos of a moving camera have no anchor, because no two chunks show the same picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The tensors of a training step."""

    latents: Float[Tensor, "b c t h w"]
    """Context chunks, then noisy copies of the target."""
    levels: Float[Tensor, "b t"]
    """Noise level of each frame; 0 for context."""
    text: Float[Tensor, "b chunks n d"]
    """Token states of each chunk's caption."""
    gather: Gather
    """Positions and visibility."""
    clean: Float[Tensor, "b c t_target h w"]
    """The target, once for each noisy copy."""
    noise: Float[Tensor, "b c t_target h w"]
    """The noise of each noisy copy."""
    stories: tuple[int, ...]
    """The story of each sample."""
    targets: tuple[int, ...]
    """The target chunk of each sample."""
    sink: Bool[Tensor, "b context"]
    """Context places that hold a sink: the first chunks of a video, which its memory always shows."""
    anchor: Bool[Tensor, "b context"]
    """The context place, at most one a sample, of the oldest chunk in view that shows the target's scene."""
    reference: Float[Tensor, "b c t_target h w"] | None = None
    """x_cond of each target (BlockVid section 3.3), zero where a target has no past; None if not asked for."""

    @property
    def target_levels(self) -> Float[Tensor, "b t_target"]:
        """Levels of the noisy copies."""
        return self.levels[:, -self.clean.shape[2] :]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        names = ("latents", "levels", "text", "clean", "noise", "sink", "anchor")
        gather = Gather(
            slots=self.gather.slots.to(device),
            visible=self.gather.visible.to(device),
            keep=None if self.gather.keep is None else self.gather.keep.to(device),
        )
        reference = None if self.reference is None else self.reference.to(device)
        moved = {name: getattr(self, name).to(device) for name in names}
        return replace(self, gather=gather, reference=reference, **moved)


def make_batch(
    stories: StorySet,
    chunk_levels: Float[Tensor, " chunks"],
    policy: Policy | Sequence[Policy],
    *,
    config: BatchConfig,
    tokens_per_chunk: int,
    generator: torch.Generator,
    first_target: int = 0,
    reference_chunks: int = 0,
) -> Batch:
    """Make the batch of a training step; what it draws depends on the generator's state alone.

    Args:
        stories: The stories that samples are drawn from.
        chunk_levels: Noise level of each chunk of a story (BlockVid Eq. 11).
        policy: Which past chunks a chunk sees; of several, one is drawn for each sample.
        config: Sizes and probabilities.
        tokens_per_chunk: Tokens of a chunk in the transformer.
        generator: The generator of all draws, see `bdiff_train.engine.step_generator`.
        first_target: The first chunk that may be a target.
        reference_chunks: Similar past chunks whose mean is the reference of a target; 0: no reference.

    Raises:
        ValueError: If the policy shows more chunks than a sample has places for.
    """
    policies = policy if isinstance(policy, Sequence) else (policy,)
    samples = [
        _Sample.draw(stories, chunk_levels, policies, config=config, generator=generator, first_target=first_target)
        for _ in range(config.stories)
    ]
    latents, clean, levels, slots, visible = (
        torch.stack([getattr(sample, name) for sample in samples])
        for name in ("latents", "clean", "levels", "slots", "visible")
    )
    noise, length = torch.randn(clean.shape, generator=generator), clean.shape[1]
    latents[:, -length:] = interpolate(_bcthw(clean), _bcthw(noise), levels[:, -length:]).transpose(1, 2)
    shape = (config.stories, config.context + config.copies, tokens_per_chunk)
    return Batch(
        latents=_bcthw(latents),
        levels=levels,
        text=torch.stack([sample.text for sample in samples]),
        gather=Gather(slots=slots, visible=visible, keep=torch.rand(shape, generator=generator) >= config.token_drop),
        clean=_bcthw(clean),
        noise=_bcthw(noise),
        stories=tuple(sample.story for sample in samples),
        targets=tuple(sample.target for sample in samples),
        sink=torch.stack([sample.sink for sample in samples]),
        anchor=torch.stack([sample.anchor for sample in samples]),
        reference=_references(stories, samples, config.copies, reference_chunks) if reference_chunks else None,
    )


def _references(
    stories: StorySet, samples: "list[_Sample]", copies: int, top_l: int
) -> Float[Tensor, "b c t_target h w"]:
    """Compute x_cond of each target, once for each noisy copy."""
    length, found = stories.frames_per_chunk, []
    for sample in samples:
        one = None
        if sample.target:  # the first chunk has no past
            past = stories.latents[sample.story, : sample.target * length].float().unflatten(0, (-1, length))
            similarity = torch.tensor(stories.similarity(sample.story, sample.target))
            one = semantic_reference(past.transpose(1, 2), similarity, top_l=top_l, num_frames=length)
        if one is None:
            one = torch.zeros_like(sample.clean[:length].transpose(0, 1))
        found.append(one.repeat(1, copies, 1, 1))
    return torch.stack(found)


def _bcthw(latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b c t h w"]:
    return latents.transpose(1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    latents: Tensor
    clean: Tensor
    levels: Tensor
    text: Tensor
    slots: Tensor
    visible: Tensor
    sink: Tensor
    anchor: Tensor
    story: int
    target: int

    @classmethod
    def draw(
        cls,
        stories: StorySet,
        chunk_levels: Tensor,
        policies: Sequence[Policy],
        *,
        config: BatchConfig,
        generator: torch.Generator,
        first_target: int,
    ) -> "_Sample":
        story, target = _draw_target(stories, config=config, generator=generator, first_target=first_target)
        policy = _draw_policy(policies, generator)
        seen = list(policy.select(target, stories.similarity(story, target)))
        if len(seen) > config.context:
            raise ValueError(f"the policy shows {len(seen)} chunks; BatchConfig.context is {config.context}")
        length, context = stories.frames_per_chunk, config.context
        absent = context - len(seen)
        rows = [*[target] * absent, *seen, *[target] * config.copies]  # absent places hold something nobody sees
        frames = stories.latents[story].float().unflatten(0, (stories.num_chunks, length))[rows]
        clean = frames[context:].clone()
        anchor = _anchor(frames[absent:context], clean[0])
        spread = config.context_noise * torch.rand(context, 1, 1, 1, 1, generator=generator)
        frames[:context] += spread * torch.randn(frames[:context].shape, generator=generator)
        text = stories.tokens[stories.caption[story][rows]].float()
        if torch.rand((), generator=generator) < config.text_dropout:
            text = torch.zeros_like(text)
        copy_levels = sample_levels(chunk_levels[target : target + 1], config.copies, generator=generator)
        slots = torch.zeros(context + config.copies, dtype=torch.long)
        slots[absent:context] = torch.arange(-len(seen), 0)  # the newest at -1, as prepare_context lays them out
        return cls(
            latents=frames.flatten(0, 1),
            clean=clean.flatten(0, 1),
            levels=torch.cat([torch.zeros(context, length), copy_levels.float().expand(-1, length)]).flatten(),
            text=text,
            slots=slots,
            visible=_visibility(context, config.copies, absent),
            sink=torch.tensor([False] * absent + [policy.kind(target, chunk) == "sink" for chunk in seen]),
            anchor=torch.cat([torch.zeros(absent, dtype=torch.bool), anchor]),
            story=story,
            target=target,
        )


def _draw_target(
    stories: StorySet, *, config: BatchConfig, generator: torch.Generator, first_target: int
) -> tuple[int, int]:
    """Draw a story and one of its chunks, an early one with probability `early_share`."""
    story = int(torch.randint(len(stories.latents), (), generator=generator))
    early = bool(torch.rand((), generator=generator) < config.early_share)
    last = max(1, stories.num_chunks // 3) if early else stories.num_chunks
    return story, first_target + int(torch.randint(max(1, last - first_target), (), generator=generator))


def _draw_policy(policies: Sequence[Policy], generator: torch.Generator) -> Policy:
    """Draw one of some policies, uniformly; of one, nothing is drawn."""
    return policies[0 if len(policies) == 1 else int(torch.randint(len(policies), (), generator=generator))]


def _anchor(seen: Float[Tensor, "seen t c h w"], target: Float[Tensor, "t c h w"]) -> Bool[Tensor, " seen"]:
    """Mark the first chunk that shows the target's scene: most of the picture is the same, whoever walks there."""
    difference = seen.median(1).values - target.median(0).values
    same = difference.abs().flatten(1).median(1).values < _SAME_SCENE
    return same & (same.cumsum(0) == 1)


def _visibility(context: int, copies: int, absent: int) -> Tensor:
    visible = torch.eye(context + copies, dtype=torch.bool)
    visible[:context, :context] |= torch.ones(context, context, dtype=torch.bool).tril()
    visible[context:, :context] = True
    visible[:, :absent] = False
    return visible | torch.eye(context + copies, dtype=torch.bool)
