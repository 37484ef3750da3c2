"""Files: writing them whole, finding out what they hold, reading JSON, and checking that numbers are finite."""

from bdiff_core.files.finite import check_finite, is_finite
from bdiff_core.files.kinds import weight_kind, what_is
from bdiff_core.files.reading import read_json, visible
from bdiff_core.files.whole import named_errors, whole_file, write_tensors

__all__ = [
    "check_finite",
    "is_finite",
    "named_errors",
    "read_json",
    "visible",
    "weight_kind",
    "what_is",
    "whole_file",
    "write_tensors",
]
