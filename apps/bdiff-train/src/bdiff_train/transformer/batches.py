"""Training batches: for a target chunk, the chunks its memory would show, and several noisy copies of itself.

A sample is ``[context, oldest first | noisy copies of the target]``. Every clean chunk sees the gathered chunks before
it, a noisy copy sees the clean ones and itself. Positions are slots, as in sampling, so a sample is as long for the
hundredth chunk of a film as for the fifth.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bdiff_core import Gather
from bdiff_train.data.stories import StorySet
from forcing_losses import interpolate, semantic_reference
from kvbank import Policy
from noisesched import sample_levels

_SAME_SCENE = 0.03
"""Median difference of the latents below which two chunks show the same scene. In storyworld it is below 0.012 for two
visits to one place and from 0.066 on for two places."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GatherConfig:
    """How a batch is put together."""

    stories: int = 8
    """Stories, with one target chunk each."""
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
    """Largest standard deviation of the noise on context latents, against errors that build up."""
    estimated_share: float = 0.0
    """Share of samples that see estimates of their context, see `bdiff_train.transformer.estimated_context`."""
    estimated_passes: int = 1
    """Most of them for a batch: each further one estimates the estimates, the copies of copies that late chunks see."""
    tint: float = 0.0
    """Largest standard deviation of the false colours that estimates get, all but those of the anchor: see
    `bdiff_train.transformer.estimated_context`. A camera that moves leaves no picture the same, and so no anchor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One training step's tensors."""

    latents: Float[Tensor, "b c t h w"]
    levels: Float[Tensor, "b t"]
    text: Float[Tensor, "b chunks n d"]
    gather: Gather
    clean: Float[Tensor, "b c t_target h w"]
    noise: Float[Tensor, "b c t_target h w"]
    stories: tuple[int, ...]
    """Which story each sample is from."""
    targets: tuple[int, ...]
    """Which chunk of it is the target."""
    sink: Bool[Tensor, "b context"]
    """Context places that hold a sink: what a film begins with, and its memory never lets go."""
    anchor: Bool[Tensor, "b context"]
    """The context place, at most one a sample, of the oldest chunk in view that shows what the target shows."""
    reference: Float[Tensor, "b c t_target h w"] | None = None
    """x_cond of every target (BlockVid section 3.3), if it was asked for; zeros where a target has no past."""

    @property
    def target_levels(self) -> Float[Tensor, "b t_target"]:
        """Levels of the noisy copies."""
        return self.levels[:, -self.clean.shape[2] :]

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
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
    policy: Policy,
    *,
    config: GatherConfig,
    tokens_per_chunk: int,
    generator: torch.Generator,
    first_target: int = 0,
    reference_chunks: int = 0,
) -> Batch:
    """The batch of a training step: a function of the generator's state alone.

    Args:
        stories: Where samples are drawn from.
        chunk_levels: Noise level of every chunk of a story (BlockVid Eq. 11).
        policy: Which past chunks a chunk sees.
        config: Sizes and probabilities.
        tokens_per_chunk: Tokens of a chunk in the transformer.
        generator: Every draw comes from it; `bdiff_train.engine.loop.step_generator` makes it from (seed, step).
        first_target: Chunks before this one are context only.
        reference_chunks: Similar past chunks whose mean is the reference of a target; 0: no reference.
    """
    samples = [
        _Sample.draw(stories, chunk_levels, policy, config=config, generator=generator, first_target=first_target)
        for _ in range(config.stories)
    ]
    latents = torch.stack([sample.latents for sample in samples])
    clean = torch.stack([sample.clean for sample in samples])
    noise = torch.randn(clean.shape, generator=generator)
    levels = torch.stack([sample.levels for sample in samples])
    first = latents.shape[1] - clean.shape[1]
    latents[:, first:] = interpolate(_bcthw(clean), _bcthw(noise), levels[:, first:]).transpose(1, 2)
    shape = (config.stories, config.context + config.copies, tokens_per_chunk)
    return Batch(
        latents=_bcthw(latents),
        levels=levels,
        text=torch.stack([sample.text for sample in samples]),
        gather=Gather(
            slots=torch.stack([sample.slots for sample in samples]),
            visible=torch.stack([sample.visible for sample in samples]),
            keep=torch.rand(shape, generator=generator) >= config.token_drop,
        ),
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
    """x_cond of each target, once a noisy copy."""
    length, found = stories.frames_per_chunk, []
    for sample in samples:
        past = stories.latents[sample.story, : sample.target * length].float().unflatten(0, (-1, length))
        similarity = torch.tensor(stories.similarity(sample.story, sample.target))
        if sample.target:
            one = semantic_reference(past.transpose(1, 2), similarity, top_l=top_l, num_frames=length)
        else:
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
        policy: Policy,
        *,
        config: GatherConfig,
        generator: torch.Generator,
        first_target: int,
    ) -> "_Sample":
        story = int(torch.randint(len(stories.latents), (), generator=generator))
        early = bool(torch.rand((), generator=generator) < config.early_share)
        last = max(1, stories.num_chunks // 3) if early else stories.num_chunks
        target = first_target + int(torch.randint(max(1, last - first_target), (), generator=generator))
        seen = list(policy.select(target, stories.similarity(story, target)))
        if len(seen) > config.context:
            raise ValueError(f"the policy shows {len(seen)} chunks; GatherConfig.context is {config.context}")
        length, places = stories.frames_per_chunk, config.context + config.copies
        absent = config.context - len(seen)
        rows = [*[target] * absent, *seen, *[target] * config.copies]  # absent places hold something nobody sees
        frames = stories.latents[story].float().unflatten(0, (stories.num_chunks, length))[rows]
        clean = frames[config.context :].clone()
        anchor = _anchor(frames[absent : config.context], clean[0])
        spread = config.context_noise * torch.rand(config.context, 1, 1, 1, 1, generator=generator)
        frames[: config.context] += spread * torch.randn(frames[: config.context].shape, generator=generator)
        text = stories.tokens[stories.caption[story][rows]].float()
        if torch.rand((), generator=generator) < config.text_dropout:
            text = torch.zeros_like(text)
        copy_levels = sample_levels(chunk_levels[target : target + 1], config.copies, generator=generator)
        levels = torch.zeros(places, length)
        levels[config.context :] = copy_levels.float()
        slots = torch.zeros(places, dtype=torch.long)
        # the newest at -1, as prepare_context lays them out
        slots[absent : config.context] = torch.arange(-len(seen), 0)
        return cls(
            latents=frames.flatten(0, 1),
            clean=clean.flatten(0, 1),
            levels=levels.flatten(),
            text=text,
            slots=slots,
            visible=_visibility(config.context, config.copies, absent),
            sink=torch.tensor([False] * absent + [policy.kind(target, chunk) == "sink" for chunk in seen]),
            anchor=torch.cat([torch.zeros(absent, dtype=torch.bool), anchor]),
            story=story,
            target=target,
        )


def _anchor(seen: Float[Tensor, "seen t c h w"], target: Float[Tensor, "t c h w"]) -> Bool[Tensor, " seen"]:
    """The first of the chunks that shows the target's scene: most of the picture is the same, whoever walks there."""
    still = seen.median(1).values - target.median(0).values
    same = still.abs().flatten(1).median(1).values < _SAME_SCENE
    return same & (same.cumsum(0) == 1)


def _visibility(context: int, copies: int, absent: int) -> Tensor:
    visible = torch.eye(context + copies, dtype=torch.bool)
    visible[:context, :context] |= torch.ones(context, context, dtype=torch.bool).tril()
    visible[context:, :context] = True
    visible[:, :absent] = False
    return visible | torch.eye(context + copies, dtype=torch.bool)
