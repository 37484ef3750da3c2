"""Manifests and captions of LV-Bench, a benchmark of long videos.

Example:
    >>> from lvbench import Manifest
    >>> manifest = Manifest.load("manifest.jsonl")  # doctest: +SKIP
    >>> split = manifest.split(seed=0)  # doctest: +SKIP
    >>> split.train[0].chunks[0].caption  # doctest: +SKIP
    'A swan glides across a lake.'
"""

from importlib.metadata import version

from lvbench.captions import CaptionedChunk, read_captions
from lvbench.manifest import Manifest, ManifestEntry, Split, read_release

__all__ = [  # noqa: RUF022 (grouped by use)
    "Manifest",
    "ManifestEntry",
    "CaptionedChunk",
    "Split",
    "read_captions",
    "read_release",
]
__version__ = version("lvbench")
