"""Storyboards: what is to be seen, shot by shot, with or without times."""

from bdiff_core.storyboard.board import Storyboard
from bdiff_core.storyboard.characters import check_prompt
from bdiff_core.storyboard.chunks import chunk_shots, count_chunks
from bdiff_core.storyboard.shots import Shot

__all__ = ["Shot", "Storyboard", "check_prompt", "chunk_shots", "count_chunks"]
