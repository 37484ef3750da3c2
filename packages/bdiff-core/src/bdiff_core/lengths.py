"""How many latent frames each chunk has. Chunks may differ, so where a chunk starts is the sum of those before it."""

from typing import Protocol, runtime_checkable

from bdiff_core.protocols import Noise


@runtime_checkable
class _Told(Protocol):
    """Noise that tells the length of a chunk without drawing it; ``noisesched.NoiseStream`` is one."""

    def num_frames(self, index: int) -> int:
        """Latent frames of chunk ``index``."""


class Lengths:
    """Latent frames of the chunks of a video, as their noise tells; each chunk is asked for once.

    Args:
        noise: The noise of the video. If it has a method ``num_frames(index)``, that is asked, else ``chunk(index)``.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._known: dict[int, int] = {}

    def of(self, index: int) -> int:
        """Latent frames of a chunk.

        Raises:
            ValueError: If the noise does not know the chunk.
        """
        if index not in self._known:
            try:
                told = self._noise
                num = told.num_frames(index) if isinstance(told, _Told) else told.chunk(index).shape[0]
            except LookupError:
                raise ValueError(
                    f"the noise has no chunk {index}, whose number of latent frames is needed; expected noise for "
                    "every chunk of the video, or a method num_frames(index)"
                ) from None
            self._known[index] = num
        return self._known[index]

    def before(self, index: int) -> int:
        """Latent frames of all chunks before a chunk."""
        return sum(map(self.of, range(index)))

    def of_each(self, *indices: int) -> dict[int, int]:
        """Latent frames of some chunks, by their index."""
        return {index: self.of(index) for index in indices}
