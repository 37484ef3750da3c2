"""`bdiff bench`: measure models, memories and videos."""

from importlib.metadata import version

__version__ = version("bdiff-bench")
