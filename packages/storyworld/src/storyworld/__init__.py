"""A synthetic world rendered as video, with captions and the truth about every frame.

Example:
    >>> import storyworld
    >>> story = storyworld.render(7, 3)
    >>> tuple(story.frames.shape), len(story.captions)
    ((3, 57, 64, 64), 3)
"""

from importlib.metadata import version

from storyworld.elements import ACTIONS, PLACES, SETTINGS, SPECIES, SPOTS, TAKES, ChunkPlan, StoryPlan
from storyworld.evaluation import Evaluation, evaluate
from storyworld.plan import plan_story
from storyworld.story import FPS, render
from storyworld.truth import StoryVideo, Truth
from storyworld.words import words

__all__ = [  # noqa: RUF022 (grouped by use)
    # render a story
    "render",
    "StoryVideo",
    "Truth",
    # only its plan and captions
    "plan_story",
    "StoryPlan",
    "ChunkPlan",
    # evaluate a video against the truth
    "evaluate",
    "Evaluation",
    # what there is in the world
    "ACTIONS",
    "FPS",
    "PLACES",
    "SETTINGS",
    "SPECIES",
    "SPOTS",
    "TAKES",
    "words",
]
__version__ = version("storyworld")
