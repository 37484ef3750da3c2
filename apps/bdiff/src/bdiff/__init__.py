"""The bdiff command: minute-long videos from storyboards, made by block diffusion with a memory."""

from importlib.metadata import version

from bdiff import defaults

__all__ = ["defaults"]
__version__ = version("bdiff")
