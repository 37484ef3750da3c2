import math
from dataclasses import replace

import pytest

from vde_metrics import load_reports
from vde_metrics.reports.saved import report_from


def test_reports_survive_being_saved(tmp_path, drift, report):
    endless = replace(drift(vde=math.inf), worst_chunk=None)
    given_report = report(metrics=(endless,), still_pairs=(0.0,) * 3)
    assert report_from(given_report.to_dict()) == given_report
    (tmp_path / "r.json").write_text(given_report.to_json())
    assert load_reports(tmp_path / "r.json") == [given_report]
    (tmp_path / "r.json").write_text("nothing")
    with pytest.raises(ValueError, match=r"r\.json: is not JSON"):
        load_reports(tmp_path / "r.json")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_reports(tmp_path / "none.json")
