"""`bdiff train`: train the autoencoder and the transformer of a model."""

from importlib.metadata import version

__version__ = version("bdiff-train")
