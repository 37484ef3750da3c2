"""Files that are there as a whole or not at all."""

from bdiff.files.checked import RunStateError, flatten, load_checked, save_checked, save_whole, unflatten
from bdiff.files.whole import missing, sha256, to_json, write_whole
from bdiff_core.files import whole_file

__all__ = [
    "RunStateError",
    "flatten",
    "load_checked",
    "missing",
    "save_checked",
    "save_whole",
    "sha256",
    "to_json",
    "unflatten",
    "whole_file",
    "write_whole",
]
