"""Measuring the chosen videos one after the other."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vde_metrics.command_line.boundary import complain, described
from vde_metrics.command_line.options import Settings
from vde_metrics.command_line.selection import Selected

if TYPE_CHECKING:
    from vde_metrics.protocols import Metric
    from vde_metrics.reports.report import DriftReport


def measure_all(
    chosen: Sequence[Selected], settings: Settings, *, as_text: bool
) -> "list[tuple[Selected, DriftReport]]":
    """Reports of all videos that could be measured.

    Args:
        chosen: the videos and saved reports.
        settings: how to measure.
        as_text: print every report as Markdown as soon as it is done.
    """
    metrics = _Metrics(settings)
    found: list[tuple[Selected, DriftReport]] = []
    for selected in chosen:
        for report in _reports(selected, metrics, place=f"{len(found) + 1}/{len(chosen)}"):
            found.append((selected, report))
            if as_text:
                click.echo(report.to_markdown())
    return found


class _Metrics:
    """The metrics of all videos. Models are loaded once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._made: dict[float | None, list[Metric]] = {}

    def for_video(self, path: Path) -> "list[Metric]":
        """The metrics for a video. Only the dynamic degree depends on the video, by its frame rate."""
        from vde_metrics.named_metrics import make_metric

        fps, settings = None, self.settings
        if "dynamic-degree" in settings.names:
            from vde_metrics.video.file import VideoFile

            fps = VideoFile.probe(path).fps
        if fps not in self._made:
            self._made[fps] = [
                make_metric(name, settings.models, fps=fps, device=settings.device) for name in settings.names
            ]
        return self._made[fps]


def _reports(selected: Selected, metrics: _Metrics, *, place: str) -> "list[DriftReport]":
    """The report of a video, or those of a saved file. If there is an error, it is a line on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            if selected.is_saved:
                from vde_metrics.reports.saved import load_reports

                return load_reports(selected.path)
            reports = [_measure_file(selected, metrics, place)]
        except (OSError, ValueError, ImportError) as error:
            text, name = described(error), str(selected.path)
            _complain(text if text.startswith(name) else f"{name}: {text}")
            return []
    for text in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)):
        _complain(f"warning: {selected.path}: {text}")
    return reports


def _measure_file(selected: Selected, metrics: _Metrics, place: str) -> "DriftReport":
    from vde_metrics.measurement import measure

    settings = metrics.settings
    with _progress(f"{place} {selected.name}") as show:
        return measure(
            selected.path,
            metrics=metrics.for_video(selected.path),
            num_chunks=settings.num_chunks,
            chunk_seconds=settings.chunk_seconds,
            weights=settings.weights,
            protocol=settings.protocol,
            name=selected.name,
            cache=settings.cache,
            thumbnails=settings.thumbnails,
            on_frames=show,
        )


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, if that is a terminal."""
    stream = sys.stderr
    if not stream.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=stream) as bar:

        def show(done: int, total: int) -> None:
            if done < bar.pos:  # the measurement begins again, with another number of frames
                bar.pos, bar.finished = 0, False
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _complain(text: str) -> None:
    context = click.get_current_context(silent=True)
    complain("vde" if context is None else context.find_root().info_name or "vde", text)
