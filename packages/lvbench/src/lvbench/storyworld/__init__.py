"""A synthetic world whose truth is known: who is where, in which colours, moving which way.

Example:
    >>> from lvbench import storyworld
    >>> story = storyworld.render(7, 3)
    >>> tuple(story.frames.shape), len(story.captions)
    ((3, 57, 64, 64), 3)
"""

from lvbench.storyworld.judge import Verdict, judge
from lvbench.storyworld.plot import ACTIONS, PLACES, SPECIES
from lvbench.storyworld.story import FPS, render
from lvbench.storyworld.truth import StoryVideo, Truth

__all__ = ["ACTIONS", "FPS", "PLACES", "SPECIES", "StoryVideo", "Truth", "Verdict", "judge", "render"]
