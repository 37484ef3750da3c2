"""Storyboards: what is to be seen, shot by shot, with or without times."""

from .board import Storyboard
from .shots import Shot

__all__ = ["Shot", "Storyboard"]
