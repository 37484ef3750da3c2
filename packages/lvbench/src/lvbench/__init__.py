"""Long-video benchmark data: LV-Bench manifests, and a synthetic world whose truth is known.

Example:
    >>> from lvbench import storyworld
    >>> story = storyworld.render(seed=7, num_chunks=3)
    >>> story.captions[0]  # doctest: +SKIP
    'the fox walks right through the meadow'
"""

from importlib.metadata import version

from lvbench import storyworld
from lvbench.captions import CaptionedChunk, read_captions
from lvbench.manifest import Manifest, ManifestEntry, Split, read_release
from storyworld import StoryVideo, Truth

__all__ = [  # noqa: RUF022 (grouped by use)
    # manifests
    "Manifest",
    "ManifestEntry",
    "CaptionedChunk",
    "Split",
    "read_captions",
    "read_release",
    # the synthetic world
    "StoryVideo",
    "Truth",
    "storyworld",
]
__version__ = version("lvbench")
