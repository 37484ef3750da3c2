"""Why a chunk is shown."""

from typing import Literal

Kind = Literal["recent", "recalled", "sink"]
"""Why a chunk is seen: it is right before the reader, its prompt is similar, or it is of the start of the video."""
