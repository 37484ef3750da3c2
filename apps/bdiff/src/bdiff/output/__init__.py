"""What a run leaves: video, contact sheet, trace; and tables in Markdown. Each is imported when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdiff.output.contact_sheet import Cell, draw_sheet, shown_on_sheet, thumbnail
    from bdiff.output.markdown import markdown_table
    from bdiff.output.trace import write_trace
    from bdiff.output.video import VideoWriter, to_uint8

__all__ = [
    "Cell",
    "VideoWriter",
    "draw_sheet",
    "markdown_table",
    "shown_on_sheet",
    "thumbnail",
    "to_uint8",
    "write_trace",
]
_MODULES = {
    **dict.fromkeys(("Cell", "draw_sheet", "shown_on_sheet", "thumbnail"), "contact_sheet"),
    **{"markdown_table": "markdown", "write_trace": "trace", "VideoWriter": "video", "to_uint8": "video"},
}


def __getattr__(name: str) -> Any:
    """The writer of videos needs neither torch nor Pillow, the tables need nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
