"""The chunk-causal diffusion transformer."""

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bdiff_core.attention.backends import Backend, backend_for, choose_attention
from bdiff_core.attention.gather import Gather
from bdiff_core.attention.layers import TextKV, TextStates
from bdiff_core.attention.view import View
from bdiff_core.config import ModelConfig
from bdiff_core.context import Context, LayerKV
from bdiff_core.inputs import (
    check_latents,
    check_prompts,
    check_text,
    chunk_view,
    gathered_view,
    past_layers,
    token_positions,
)
from bdiff_core.layers import (
    Block,
    EmbeddedText,
    Head,
    ImageProjection,
    Patches,
    TextProjection,
    TimeEmbedding,
)
from bdiff_core.rope import rotate, rotation


class ChunkDiT(nn.Module):
    """Diffusion transformer of Wan 2.1 and SkyReels-V2, causal over chunks and with a memory of earlier ones.

    Attributes:
        gradient_checkpointing: Recompute each block in the backward pass instead of keeping its activations.
        attention: Name of the kernel, see `attention.choose_attention`; set it when the model is on its device.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self._attention = "sdpa"
        self.patches = Patches(config)
        self.time = TimeEmbedding(config)
        self.text = TextProjection(config)
        self.image = None
        if config.image_dim is not None:
            self.image = ImageProjection(config.image_dim, config.image_length, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        if not self.head.table.is_meta:  # on the meta device torch would load its compiler, which takes two seconds
            self._initialise()

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        levels: Float[Tensor, "b t"],
        text: Float[Tensor, "b n d"] | Float[Tensor, "b chunks n d"] | TextStates,
        *,
        frames_per_chunk: int | None = None,
        context: Context | None = None,
        start: int = 0,
        extra: Float[Tensor, "b extra t h w"] | None = None,
        image_tokens: Float[Tensor, "images m clip"] | None = None,
    ) -> Float[Tensor, "b out t h w"]:
        """Velocity of the latents at the given levels.

        Args:
            latents: Noisy latents.
            levels: Flow-matching time of each latent frame: 0 clean, 1 pure noise.
            text: States of one prompt a video or of one prompt a chunk, zero-padded here to `config.text_length`; or
                what `embed_text` made of them.
            frames_per_chunk: Latent frames of a chunk; chunks see themselves and earlier chunks. None: everything sees
                everything.
            context: Earlier chunks that all latents see, from `prepare_context`.
            start: Position of the first latent frame.
            extra: Channels of an image-to-video model, put behind the latents' own.
            image_tokens: CLIP tokens of an image-to-video model, one image a video; for a model of first and last
                frames (`image_length`) two, as rows of their own or one after the other. With `TextStates` give them
                to `embed_text` instead.
        """
        check_latents(latents, levels, self.config, extra=extra)
        view = self._view(latents, frames_per_chunk=frames_per_chunk, start=start, context=context)
        texts = self._texts(text, image_tokens, latents, frames_per_chunk=frames_per_chunk)
        return self._velocity(latents, levels, texts, view, context=context, extra=extra)

    def gathered(
        self,
        latents: Float[Tensor, "b c t h w"],
        levels: Float[Tensor, "b t"],
        text: Float[Tensor, "b n d"] | Float[Tensor, "b chunks n d"] | TextStates,
        gather: Gather,
        *,
        frames_per_chunk: int,
        extra: Float[Tensor, "b extra t h w"] | None = None,
        image_tokens: Float[Tensor, "images m clip"] | None = None,
    ) -> Float[Tensor, "b out t h w"]:
        """Velocity of chunks picked from anywhere in a video, for training.

        Each chunk gets what sampling computes for it with the chunks that it sees as its context.

        Args:
            latents: Latents of the chunks, one after the other, clean or noisy.
            levels: Flow-matching time of each latent frame.
            text: As in `forward`.
            gather: Where each chunk sits, and which others it sees.
            frames_per_chunk: Latent frames of each chunk.
            extra: As in `forward`.
            image_tokens: As in `forward`.
        """
        check_latents(latents, levels, self.config, extra=extra)
        backend, dtype = self._backend(latents), self.compute_dtype
        view = gathered_view(latents, self.config, backend, gather, frames_per_chunk=frames_per_chunk, dtype=dtype)
        texts = self._texts(text, image_tokens, latents, frames_per_chunk=frames_per_chunk)
        return self._velocity(latents, levels, texts, view, context=None, extra=extra)

    def keys_values(
        self,
        latents: Float[Tensor, "b c t h w"],
        levels: Float[Tensor, "b t"],
        text: Float[Tensor, "b n d"] | Float[Tensor, "b chunks n d"] | TextStates,
        *,
        frames_per_chunk: int | None = None,
        context: Context | None = None,
        start: int = 0,
        extra: Float[Tensor, "b extra t h w"] | None = None,
        image_tokens: Float[Tensor, "images m clip"] | None = None,
    ) -> Iterator[LayerKV]:
        """Each layer's keys, values and queries before rotary positions, one layer at a time.

        The arguments are those of `forward`. A layer is computed when the iterator is asked for it, so only one
        layer's tensors need to exist; the last block's feed-forward and the head are never computed.
        """
        check_latents(latents, levels, self.config, extra=extra)
        view = self._view(latents, frames_per_chunk=frames_per_chunk, start=start, context=context)
        texts = self._texts(text, image_tokens, latents, frames_per_chunk=frames_per_chunk)
        position = self.positions(latents, start=start)
        x, _, time = self._embed(latents, levels, extra)
        for block, states, past in zip(self._layers, texts, past_layers(context, len(self.blocks)), strict=True):
            modulation = block.modulation(time)
            q, k, v = qkv = block.project(x, modulation)
            yield LayerKV(key=k, value=v, position=position, query=q)
            if block is not self.blocks[-1]:
                x = block.finish(x, modulation, qkv, text=states, view=view, past=past)

    def embed_text(
        self,
        text: Float[Tensor, "b n d"] | Float[Tensor, "b chunks n d"],
        *,
        image_tokens: Float[Tensor, "images m clip"] | None = None,
    ) -> TextStates:
        """Keys and values of the prompts in every layer.

        They may be given wherever `text` is: so prompts are embedded once a chunk, not once a step.
        """
        embedded = self._embed_text(text, image_tokens)
        num_prompts = text.shape[1] if text.ndim == 4 else 1
        layers = tuple(block.cross_attention.keys_values(*embedded) for block in self._layers)
        return TextStates(layers=layers, num_prompts=num_prompts)

    def positions(self, latents: Float[Tensor, "b c t h w"], *, start: int = 0) -> Int[Tensor, "tokens 3"]:
        """Time, row and column of each token."""
        return token_positions(latents, self.config, start=start)

    def rotate(
        self, x: Float[Tensor, "*batch tokens dh"], position: Int[Tensor, "tokens 3"]
    ) -> Float[Tensor, "*batch tokens dh"]:
        """Apply rotary positions to queries or keys of `keys_values`."""
        return rotate(x, *rotation(position, self.config.head_dim, self.config.rope_theta))

    @property
    def attention(self) -> str:
        """Name of the attention kernel."""
        return self._attention

    @attention.setter
    def attention(self, name: str) -> None:
        weight = self.patches.project.weight
        self._attention = choose_attention(name, device=weight.device, dtype=self.compute_dtype)

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype in which attention runs: that of the weights, or autocast's."""
        weight = self.patches.project.weight
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype

    @property
    def _layers(self) -> tuple[Block, ...]:
        return cast("tuple[Block, ...]", tuple(self.blocks))

    def _view(self, latents: Tensor, *, frames_per_chunk: int | None, start: int, context: Context | None) -> View:
        return chunk_view(
            latents,
            self.config,
            self._backend(latents),
            frames_per_chunk=frames_per_chunk,
            start=start,
            context=context,
        )

    def _backend(self, latents: Tensor) -> Backend:
        return backend_for(self._attention, device=latents.device, dtype=self.compute_dtype)

    def _velocity(
        self,
        latents: Tensor,
        levels: Tensor,
        texts: tuple[TextKV | EmbeddedText, ...],
        view: View,
        *,
        context: Context | None,
        extra: Tensor | None,
    ) -> Float[Tensor, "b out t h w"]:
        x, embedding, time = self._embed(latents, levels, extra)
        for block, states, past in zip(self._layers, texts, past_layers(context, len(self.blocks)), strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, time, states, view=view, past=past, use_reentrant=False)
            else:
                x = block(x, time, states, view=view, past=past)
        return self._unpatch(self.head(x, embedding), latents)

    def _embed(
        self, latents: Tensor, levels: Tensor, extra: Tensor | None
    ) -> tuple[Float[Tensor, "b t s d"], Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        given = latents if extra is None else torch.cat((latents, extra.to(latents.dtype)), dim=1)
        embedding, time = self.time(levels)
        # Under autocast the patches come out in half precision; the residual stream keeps the dtype of the weights.
        return self.patches(given).to(self.patches.project.weight.dtype), embedding, time

    def _embed_text(self, text: Tensor, image_tokens: Tensor | None) -> EmbeddedText:
        check_text(text, self.config, image_tokens=image_tokens)
        padded = F.pad(text, (0, 0, 0, self.config.text_length - text.shape[-2]))
        prompts = self.text(padded.flatten(0, -3))
        return prompts, None if self.image is None else self.image(image_tokens)

    def _texts(
        self,
        text: Tensor | TextStates,
        image_tokens: Tensor | None,
        latents: Tensor,
        *,
        frames_per_chunk: int | None,
    ) -> tuple[TextKV | EmbeddedText, ...]:
        """What each block's cross attention gets."""
        if isinstance(text, TextStates):
            if image_tokens is not None:
                raise ValueError("image_tokens are part of the text states: give them to embed_text")
            num_prompts, batch = text.num_prompts, text.layers[0].key.shape[0] // text.num_prompts
            texts: tuple[TextKV | EmbeddedText, ...] = text.layers
        else:
            num_prompts, batch = text.shape[1] if text.ndim == 4 else 1, text.shape[0]
            texts = (self._embed_text(text, image_tokens),) * len(self.blocks)
        check_prompts(num_prompts, batch, latents, frames_per_chunk=frames_per_chunk)
        return texts

    def _unpatch(self, patches: Float[Tensor, "b t s patch"], latents: Tensor) -> Float[Tensor, "b c t h w"]:
        _, p, q = self.config.patch_size
        rows = latents.shape[3] // p
        velocity = rearrange(patches, "b t (h w) (p q c) -> b c t (h p) (w q)", h=rows, p=p, q=q)
        return velocity.to(latents.dtype)

    def _initialise(self) -> None:
        """Initial weights as Wan's: Xavier everywhere, small embeddings, and a head that gives zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in (self.time.hidden, self.time.out, self.text.hidden, self.text.out):
            nn.init.normal_(module.weight, std=0.02)
        for table in (*(block.table for block in self._layers), self.head.table):
            nn.init.normal_(table, std=self.config.dim**-0.5)
        nn.init.zeros_(self.head.project.weight)
