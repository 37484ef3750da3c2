"""Old import path of the package ``storyworld``."""

from storyworld import *  # noqa: F403
from storyworld import __all__ as __all__
