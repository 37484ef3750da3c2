"""A synthetic world rendered as video, with captions and the truth about every frame.

Example:
    >>> import storyworld
    >>> story = storyworld.render(7, 3)
    >>> tuple(story.frames.shape), len(story.captions)
    ((3, 57, 64, 64), 3)
"""

from importlib.metadata import PackageNotFoundError, version

from storyworld.judge import Verdict, judge
from storyworld.plot import ACTIONS, PLACES, SPECIES, Plot, write_plot
from storyworld.story import FPS, render
from storyworld.truth import StoryVideo, Truth

__all__ = [  # noqa: RUF022 (grouped by use)
    # render a story
    "render",
    "StoryVideo",
    "Truth",
    # only its plan and captions
    "write_plot",
    "Plot",
    # evaluate a video against the truth
    "judge",
    "Verdict",
    # what there is in the world
    "ACTIONS",
    "FPS",
    "PLACES",
    "SPECIES",
]

try:
    __version__ = version("storyworld")
except PackageNotFoundError:  # run from a checkout's source folder
    __version__ = "0"
