"""What the loop needs of its parts: any object with these methods can be used."""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Memory(Protocol):
    """Keys and values of past chunks; ``kvbank.KVBank`` is one."""

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Any:
        """Recall for chunk ``index``: an object with ``chunks``, ``kinds``, ``spans`` and ``layers``."""
        ...

    def write(self, index: int, layers: Iterable[Any], *, embedding: Float[Tensor, " d"] | None) -> None:
        """Store chunk ``index``: per layer the keys, values and queries before RoPE, with positions."""
        ...

    def prefetch(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> None:
        """Announce that chunk ``index`` will be read next, with this embedding."""
        ...


@runtime_checkable
class Noise(Protocol):
    """Initial noise; ``noisesched.NoiseStream`` is one."""

    def chunk(self, index: int) -> Float[Tensor, "frames c h w"]:
        """Noise of a chunk: a function of the seed and ``index`` alone."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """Latents to pixels, chunk by chunk; `CausalVAE` is one."""

    def decode(self, latents: Float[Tensor, "b c t h w"], state: Any = None) -> tuple[Float[Tensor, "b 3 T H W"], Any]:
        """Decode the next chunk; also return the state that decoding the chunk after it needs."""
        ...
