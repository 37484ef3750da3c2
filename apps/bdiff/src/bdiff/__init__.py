"""The bdiff command: sample, train and measure long videos made by block diffusion."""

from importlib.metadata import version

__version__ = version("bdiff")
