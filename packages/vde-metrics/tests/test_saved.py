import math

import pytest

from vde_metrics import DriftReport, MetricDrift, load_reports
from vde_metrics.reports.saved import report_from


def report(video, error, *, frozen=False, metric="clarity", num_chunks=3, **changes):
    one = MetricDrift(
        name=metric,
        settings="S()",
        scores=(4.0,) * num_chunks,
        vde=error * 3,
        vde_normalized=error,
        slope=0.0,
        worst_chunk=None,
    )
    fields = {
        "video": video,
        "fps": None,
        "height": 8,
        "width": 8,
        "chunk_frames": tuple(range(0, 10 * num_chunks + 1, 10)),
        "weights": "linear",
        "metrics": (one,),
        "still_pairs": (1.0 if frozen else 0.0,) * num_chunks,
    }
    return DriftReport(**fields | changes)


def test_reports_survive_being_saved(tmp_path):
    given_report = report("a.mp4", math.inf, source={"codec": "h264"}, versions={"torch": "2"}, fps=8.0)
    assert report_from(given_report.to_dict()) == given_report
    (tmp_path / "r.json").write_text(given_report.to_json())
    assert load_reports(tmp_path / "r.json") == [given_report]
    (tmp_path / "r.json").write_text("nothing")
    with pytest.raises(ValueError, match=r"r\.json: is not JSON"):
        load_reports(tmp_path / "r.json")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_reports(tmp_path / "none.json")
