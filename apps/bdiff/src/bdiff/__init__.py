"""The bdiff command: minute-long videos from storyboards, made by block diffusion with a memory."""

from importlib.metadata import version

from bdiff import defaults
from bdiff.defaults import Sampling

__all__ = ["Sampling", "defaults"]
__version__ = version("bdiff")
