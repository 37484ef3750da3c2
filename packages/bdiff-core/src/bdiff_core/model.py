"""The chunk-causal diffusion transformer."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bdiff_core.attention.backends import attend_by, choose_attention
from bdiff_core.attention.layers import TextKV
from bdiff_core.attention.pass_layout import Attend, Gather, PassLayout
from bdiff_core.config import ModelConfig
from bdiff_core.context import Context, ContextLayer, LayerKV
from bdiff_core.layers import Block, EmbeddedText, Head, ImageProjection, Patches, TextProjection, TimeEmbedding
from bdiff_core.prompts import TextStates, check_prompts, check_text
from bdiff_core.rope import rotate, rotation


class ChunkDiT(nn.Module):
    """Diffusion transformer of Wan 2.1 and SkyReels-V2, causal over chunks and with a memory of earlier ones.

    Attributes:
        gradient_checkpointing: Recompute each block in the backward pass instead of keeping its activations.
        attention: Name of the kernel, see `backends.choose_attention`; set it once the model is where it computes.
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
        if not self.head.table.is_meta:  # torch would load its compiler to draw nothing: two seconds
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
            frames_per_chunk: Chunks see themselves and earlier chunks; None: everything sees everything.
            context: Earlier chunks that all latents see, from `prepare_context`.
            start: Position of the first latent frame.
            extra: Channels of an image-to-video model, put behind the latents' own.
            image_tokens: Its CLIP tokens, one image a video; for a model of first and last frames (`image_length`) two,
                as rows of their own or one after the other. With `TextStates` give them to `embed_text` instead.
        """
        embedded = self._embed(latents, levels, extra)
        layout = self._layout(latents, frames_per_chunk=frames_per_chunk, start=start)
        texts = self._texts(text, image_tokens, latents, frames_per_chunk=frames_per_chunk)
        return self._unpatch(self._blocks(embedded, texts, layout, self._past(context)), latents)

    def gathered(
        self,
        latents: Float[Tensor, "b c t h w"],
        levels: Float[Tensor, "b t"],
        text: Float[Tensor, "b n d"] | Float[Tensor, "b chunks n d"],
        gather: Gather,
        *,
        frames_per_chunk: int,
    ) -> Float[Tensor, "b out t h w"]:
        """Velocity of chunks picked from a video, as a training step needs it.

        Args:
            latents: Noisy latents of the chunks, one after the other.
            levels: Flow-matching time of each latent frame.
            text: States of one prompt a video or of one prompt a chunk.
            gather: Where each chunk sits, and which others it sees.
            frames_per_chunk: Latent frames of each chunk.
        """
        embedded = self._embed(latents, levels, None)
        layout = self._gather_layout(latents, gather, frames_per_chunk)
        texts = self._texts(text, None, latents, frames_per_chunk=frames_per_chunk)
        return self._unpatch(self._blocks(embedded, texts, layout, self._past(None)), latents)

    def _blocks(
        self,
        embedded: tuple[Tensor, Tensor, Tensor],
        texts: tuple[TextKV | EmbeddedText, ...],
        layout: PassLayout,
        pasts: tuple[ContextLayer | None, ...],
    ) -> Float[Tensor, "b t s patch"]:
        """All blocks and the head."""
        x, embedding, time = embedded
        for block, states, past in zip(self._layers, texts, pasts, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, time, states, layout=layout, past=past, use_reentrant=False)
            else:
                x = block(x, time, states, layout=layout, past=past)
        return self.head(x, embedding)

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
        x, _, time = self._embed(latents, levels, extra)
        layout = self._layout(latents, frames_per_chunk=frames_per_chunk, start=start)
        texts = self._texts(text, image_tokens, latents, frames_per_chunk=frames_per_chunk)
        position = self.positions(latents, start=start)
        for block, states, past in zip(self._layers, texts, self._past(context), strict=True):
            modulation = block.modulation(time)
            q, k, v = qkv = block.project(x, modulation)
            yield LayerKV(key=k, value=v, position=position, query=q)
            if block is not self.blocks[-1]:
                x = block.finish(x, modulation, qkv, text=states, layout=layout, past=past)

    def embed_text(
        self,
        text: Float[Tensor, "b n d"] | Float[Tensor, "b chunks n d"],
        *,
        image_tokens: Float[Tensor, "images m clip"] | None = None,
    ) -> TextStates:
        """Keys and values of the prompts in every layer, accepted wherever `text` is: once a chunk, not once a step."""
        embedded = self._embed_text(text, image_tokens)
        num_prompts = text.shape[1] if text.ndim == 4 else 1
        layers = tuple(block.cross_attention.keys_values(*embedded) for block in self._layers)
        return TextStates(layers=layers, num_prompts=num_prompts)

    def positions(self, latents: Float[Tensor, "b c t h w"], *, start: int = 0) -> Int[Tensor, "tokens 3"]:
        """Time, row and column of each token."""
        _, rows, columns = self.config.patch_size
        frames, height, width = latents.shape[2:]
        ranges = ((start, start + frames), (0, height // rows), (0, width // columns))
        return torch.cartesian_prod(*(torch.arange(*ends, device=latents.device) for ends in ranges))

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

    def _embed(
        self, latents: Tensor, levels: Tensor, extra: Tensor | None
    ) -> tuple[Float[Tensor, "b t s d"], Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        _, rows, columns = self.config.patch_size
        given = latents if extra is None else torch.cat((latents, extra.to(latents.dtype)), dim=1)
        if given.shape[1] != self.config.in_channels:
            raise ValueError(f"latents (with extra) have {given.shape[1]} channels, expected {self.config.in_channels}")
        if latents.shape[3] % rows or latents.shape[4] % columns:
            raise ValueError(f"latents are {tuple(latents.shape[3:])} high and wide; patches are {rows} by {columns}")
        if levels.shape != (latents.shape[0], latents.shape[2]):
            raise ValueError(
                f"levels are {tuple(levels.shape)}; expected one a video and frame, "
                f"{(latents.shape[0], latents.shape[2])}"
            )
        embedding, time = self.time(levels)
        # Under autocast the patches come out in half precision; the residual stream keeps the dtype of the weights.
        return self.patches(given).to(self.patches.project.weight.dtype), embedding, time

    def _layout(self, latents: Tensor, *, frames_per_chunk: int | None, start: int) -> PassLayout:
        position, chunk_tokens = self.positions(latents, start=start), None
        if frames_per_chunk is not None:
            chunk_tokens = len(position) // self._num_chunks(latents, frames_per_chunk)
        return PassLayout(self._kernel(latents), position=position, chunk_tokens=chunk_tokens, **self._rotary)

    def _gather_layout(self, latents: Tensor, gather: Gather, frames_per_chunk: int) -> PassLayout:
        expected = (latents.shape[0], self._num_chunks(latents, frames_per_chunk))
        if gather.slots.shape != expected:
            raise ValueError(
                f"gather.slots is {tuple(gather.slots.shape)}; the latents are {expected[0]} videos of {expected[1]} "
                "chunks"
            )
        chunk = self.positions(latents[:, :, :frames_per_chunk])
        sizes: dict[str, Any] = {"frames_per_chunk": frames_per_chunk, "dtype": self.compute_dtype}
        return PassLayout.of_gather(self._kernel(latents), gather, chunk, **sizes, **self._rotary)

    @property
    def _rotary(self) -> dict[str, Any]:
        return {"head_dim": self.config.head_dim, "theta": self.config.rope_theta}

    def _kernel(self, latents: Tensor) -> Attend:
        return attend_by(self._attention, device=latents.device, dtype=self.compute_dtype)

    @staticmethod
    def _num_chunks(latents: Tensor, frames_per_chunk: int) -> int:
        frames = latents.shape[2]
        if frames_per_chunk < 1 or frames % frames_per_chunk:
            raise ValueError(f"{frames} latent frames do not divide into chunks of {frames_per_chunk} frames_per_chunk")
        return frames // frames_per_chunk

    def _embed_text(self, text: Tensor, image_tokens: Tensor | None) -> EmbeddedText:
        check_text(text, image_tokens, self.config)
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

    def _past(self, context: Context | None) -> tuple[ContextLayer | None, ...]:
        if context is None or not context.layers:
            return (None,) * len(self.blocks)
        if len(context.layers) != len(self.blocks):
            raise ValueError(f"context has {len(context.layers)} layers, the model {len(self.blocks)}")
        return context.layers

    def _unpatch(self, patches: Float[Tensor, "b t s patch"], latents: Tensor) -> Float[Tensor, "b c t h w"]:
        _, p, q = self.config.patch_size
        rows = latents.shape[3] // p
        velocity = rearrange(patches, "b t (h w) (p q c) -> b c t (h p) (w q)", h=rows, p=p, q=q)
        return velocity.to(latents.dtype)

    def _initialise(self) -> None:
        """Wan's: Xavier everywhere, small embeddings, and a head that answers zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in (self.time.hidden, self.time.out, self.text.hidden, self.text.out):
            nn.init.normal_(module.weight, std=0.02)
        for table in (*(block.table for block in self._layers), self.head.table):
            nn.init.normal_(table, std=self.config.dim**-0.5)
        nn.init.zeros_(self.head.project.weight)
