"""Long-video benchmark data: a synthetic world whose truth is known.

Example:
    >>> from lvbench import storyworld
    >>> story = storyworld.render(seed=7, num_chunks=3)
    >>> story.captions[0]  # doctest: +SKIP
    'the fox walks right through the meadow'
"""

from importlib.metadata import version

from lvbench import storyworld
from lvbench.storyworld import StoryVideo, Truth

__all__ = [
    # the synthetic world
    "StoryVideo",
    "Truth",
    "storyworld",
]
__version__ = version("lvbench")
