"""A bank behind the cache of Self-Forcing and its descendants: a list of dicts, one a layer."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kvbank.adapters.placed_bank import PlacedBank, Positions
from kvbank.bank import KVBank
from kvbank.recall import Recall
from kvbank.writing import Rotate

Cache = Sequence[dict[str, Tensor]]
"""`kv_cache1` of Self-Forcing: of each layer `k` and `v`, `[branches, room, heads, dh]`, keys after RoPE, and how much
is filled (`local_end_index`) by how much of the video (`global_end_index`)."""


class SelfForcingMemory:
    """Puts what a `KVBank` recalls into the cache of Self-Forcing's models, and finished chunks into the bank.

    These models attend to all that is filled of the cache. They write the current chunk behind it at every step, and a
    last pass leaves the clean chunk there. `begin`, before the first pass of a chunk, writes the chunk before to the
    bank and fills the cache with what the new one shall see. The model is not changed. Its window never rolls, since
    what is shown and the chunk itself fit into the cache: where they do not, `begin` says so.

    The cache holds keys after RoPE and no queries. Given the modules of self-attention, keys are taken before RoPE and
    queries as well. Without them keys are rotated back, which is exact but for the rounding of their dtype.

    Args:
        bank: The memory; for a policy with a coverage give it `rotate=rope`.
        rope: The model's RoPE.
        grid: Rows and columns of tokens in a latent frame.
        frames_per_chunk: Latent frames of the longest chunk.
        positions: `slots` places recalled chunks right before the current one, so a video has any length. `absolute`
            leaves them where they are in the video, as the original does: for videos as long as those of training.
        attention: Modules of self-attention in the order of the layers, with `norm_q` and `norm_k`.

    Attributes:
        chunk_tokens: Tokens of a chunk of `frames_per_chunk`.

    Raises:
        ValueError: If an argument is not what it should be, or the policy needs queries and there is no `attention`.
    """

    def __init__(
        self,
        bank: KVBank,
        *,
        rope: Rotate,
        grid: tuple[int, int],
        frames_per_chunk: int,
        positions: Positions = "slots",
        attention: Sequence[nn.Module] = (),
    ) -> None:
        self._bank = PlacedBank(bank, rope=rope, grid=grid, positions=positions)
        if frames_per_chunk < 1:
            raise ValueError(f"frames_per_chunk is {frames_per_chunk}; expected at least 1 latent frame")
        if self._bank.needs_queries and not attention:
            raise ValueError(
                f"{bank.policy} needs queries, which the cache does not hold: "
                "give attention=[block.self_attn for block in model.blocks], or a policy with coverage=None"
            )
        self.chunk_tokens = frames_per_chunk * self._bank.frame_tokens
        self._room = min((int(getattr(each, "max_attention_size", 2**62)) for each in attention), default=2**62)
        self._seen: dict[tuple[str, int], Tensor] = {}
        self._hooks = self._watch(attention)
        self.reset()

    @property
    def bank(self) -> KVBank:
        """The memory."""
        return self._bank.bank

    @property
    def index(self) -> int | None:
        """The chunk that is being made; None before the first."""
        return self._index

    @property
    def start(self) -> int:
        """What the model must get as `current_start`: 0 for slots, the tokens before the chunk for absolute ones."""
        return self._bank.origin(self._first_frame) * self._bank.frame_tokens

    def reset(self) -> None:
        """Begin another video: what is not in the bank yet is dropped, and the next chunk is 0.

        The bank forgets the earlier video as soon as chunk 0 of the next one is kept.
        """
        self._index: int | None = None
        self._embedding: Tensor | None = None
        self._first_frame = 0
        self._shown: list[int] = []
        self._pending = False
        self._seen.clear()

    def close(self) -> None:
        """Take the hooks off the modules of self-attention."""
        while self._hooks:
            self._hooks.pop().remove()

    def begin(
        self, index: int, kv_cache: Cache, *, embedding: Float[Tensor, " d"] | None, current_start: int
    ) -> Recall:
        """Keep the chunk before, and fill the cache with what chunk `index` sees.

        Args:
            index: Chunk number, from 0.
            kv_cache: The cache of the pipeline, as the model gets it.
            embedding: Embedding of the chunk's prompt; may be None if the policy does not compare prompts.
            current_start: Tokens before the chunk in the video, as the pipeline counts them. Give the model `start`.

        Raises:
            ValueError: If what the chunk sees does not fit, a chunk before it is not written, or an embedding is
                missing.
        """
        if self._pending and self._index is not None and index == self._index + 1:
            self.keep(kv_cache)
        self._pending = False
        first_frame, rest = divmod(current_start, self._bank.frame_tokens)
        if rest:
            raise ValueError(
                f"current_start is {current_start}; expected a multiple of {self._bank.frame_tokens}, "
                "the tokens of a latent frame in grid"
            )
        recall, placed = self._bank.read(index, embedding=embedding)
        shown = [key.shape[2] for key, _ in placed] or [0] * len(kv_cache)
        self._check_room(index, kv_cache, shown)
        self._index, self._embedding, self._first_frame = index, embedding, first_frame
        self._shown, self._pending = shown, True
        for number, (cache, count) in enumerate(zip(kv_cache, shown, strict=True)):
            if count:
                key, value = placed[number]
                cache["k"][:, :count] = key.transpose(1, 2)
                cache["v"][:, :count] = value.transpose(1, 2)
            cache["local_end_index"].fill_(count)
            cache["global_end_index"].fill_(self.start)
        return recall

    def keep(self, kv_cache: Cache) -> None:
        """Write the current chunk, as the model's last pass left it in the cache; `begin` does it for the chunk before.

        Call it after the last chunk of a video whose bank is saved or continued. A second call does nothing.

        Args:
            kv_cache: The cache of the pipeline.

        Raises:
            ValueError: If no chunk is open, or the model has not run since `begin`.
        """
        if self._index is None:
            raise ValueError("no chunk is open; call begin before the first pass of a chunk")
        if not self._pending:
            return
        num_tokens = int(kv_cache[0]["local_end_index"]) - self._shown[0]
        if num_tokens <= 0:
            raise ValueError(f"chunk {self._index} is not in the cache; run the model between begin and keep")
        self._bank.write(
            self._index,
            self._layers(kv_cache, num_tokens),
            num_tokens=num_tokens,
            embedding=self._embedding,
            start=self._first_frame,
        )
        self._pending = False
        self._seen.clear()

    def _layers(self, kv_cache: Cache, num_tokens: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Keys before RoPE, values, and queries before RoPE of each layer."""
        origin = self._bank.origin(self._first_frame)
        position = self._bank.positions(num_tokens, start=origin, device=kv_cache[0]["k"].device)
        for number, (cache, shown) in enumerate(zip(kv_cache, self._shown, strict=True)):
            part = slice(shown, shown + num_tokens)
            rotated, value = (cache[name][:, part].transpose(1, 2) for name in ("k", "v"))
            key, query = (self._taken(name, number, rotated) for name in ("norm_k", "norm_q"))
            if key is None:
                key = self._bank.rope(rotated, -position)
            elif number == 0:
                self._check_same(self._bank.rope(key, position), rotated)
            yield key, value, query

    def _taken(self, name: str, layer: int, like: Tensor) -> Tensor | None:
        """What a module of a layer gave at the last pass, as heads; None if it is not watched."""
        seen = self._seen.get((name, layer))
        if seen is None:
            return None
        return seen.unflatten(2, (like.shape[1], -1)).transpose(1, 2).to(like)

    def _watch(self, attention: Sequence[nn.Module]) -> list[RemovableHandle]:
        """Hooks that remember keys, and queries if the policy needs them, as they are before RoPE."""
        names = ("norm_k", "norm_q") if self._bank.needs_queries else ("norm_k",)
        hooks = []
        for layer, module in enumerate(attention):
            for name in names:
                if not isinstance(getattr(module, name, None), nn.Module):
                    raise ValueError(
                        f"attention[{layer}] is a {type(module).__name__} without {name}; "
                        "expected the self-attention of a Wan block: [block.self_attn for block in model.blocks]"
                    )

                def remember(
                    module: nn.Module, given: tuple[Tensor, ...], made: Tensor, at: tuple[str, int] = (name, layer)
                ) -> None:
                    self._seen[at] = made.detach()

                hooks.append(getattr(module, name).register_forward_hook(remember))
        return hooks

    def _check_same(self, ours: Tensor, cached: Tensor) -> None:
        """Compare keys of `attention`, rotated, with those of the cache; they differ by rounding at most."""
        if not (ours - cached).abs().max() <= 0.02 * cached.abs().max():
            raise ValueError(
                f"keys of attention[0], rotated, are not those of chunk {self._index} in the cache: give the model's "
                "own rope and grid, and memory.start as current_start; the last pass of a chunk must use this cache"
            )

    def _check_room(self, index: int, kv_cache: Cache, shown: Sequence[int]) -> None:
        if len(shown) != len(kv_cache):
            raise ValueError(f"the cache has {len(kv_cache)} layers; the chunks in the bank have {len(shown)}")
        for cache, count in zip(kv_cache, shown, strict=True):
            room = min(cache["k"].shape[1], self._room) - self.chunk_tokens
            if count > room:
                raise ValueError(
                    f"chunk {index} is shown {count} tokens; attention has room for {room} beside the chunk's own "
                    f"{self.chunk_tokens}: use a policy that shows fewer chunks, or KVBank(budget={max(room, 1)})"
                )
