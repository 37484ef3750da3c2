"""Storyboards: what is to be seen, shot by shot, with or without times."""

from .board import Storyboard
from .characters import check_prompt
from .shots import Shot

__all__ = ["Shot", "Storyboard", "check_prompt"]
