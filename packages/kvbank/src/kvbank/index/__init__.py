"""Where prompts are compared."""

from kvbank.index.indexes import ExactIndex, FaissIndex, Index

__all__ = ["ExactIndex", "FaissIndex", "Index"]
