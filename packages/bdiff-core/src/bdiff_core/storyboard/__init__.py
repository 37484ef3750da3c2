"""Storyboards: prompts shot by shot, with or without times, and the shot that each chunk of a video shows.

Example:
    >>> board = Storyboard.from_prompts(["a fox runs", "a fox sleeps"], seconds=5)
    >>> chunk_shots(board, fps=8, frames_per_chunk=20)
    [0, 0, 1, 1, 1]
"""

from bdiff_core.storyboard.board import Storyboard
from bdiff_core.storyboard.characters import check_prompt
from bdiff_core.storyboard.chunks import chunk_shots, count_chunks
from bdiff_core.storyboard.shots import Shot

__all__ = ["Shot", "Storyboard", "check_prompt", "chunk_shots", "count_chunks"]
