import json
import math
import xml.etree.ElementTree as ET

import pytest

from vde_metrics import html_page, require_comparable


def test_json_holds_everything(report):
    found = json.loads(report().to_json())
    assert found["metrics"]["clarity"] == {
        "settings": "S()",
        "models": {"encoder": "E 1"},
        "scores": [4.0, 2.0, 3.0],
        "vde": 1.25,
        "vde_normalized": 1.25 / 3,
        "slope": -0.5,
        "worst_chunk": 1,
    }
    assert (found["video"], found["fps"], found["num_frames"], found["protocol"]) == ("a.mp4", 8.0, 30, "paper")
    assert (found["num_chunks"], found["chunk_frames"]) == (3, [0, 10, 20, 30])
    assert (found["source"], found["versions"], found["is_frozen"]) == ({"codec": "h264"}, {"torch": "2.0"}, False)


def test_json_of_an_infinite_error_is_valid(drift, report):
    text = report(metrics=(drift(vde=math.inf),)).to_json()
    found = json.loads(text, parse_constant=pytest.fail)
    assert float(found["metrics"]["clarity"]["vde"]) == math.inf


def test_markdown_shows_errors_and_scores(report):
    text = report().to_markdown()
    assert text.startswith("## a.mp4\n\n48x32, 30 frames (3.8 s at 8 fps), 3 chunks, linear weights, protocol paper\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == ["clarity", "1.2500", "0.4167", "-0.5", "1"]
    assert ["1", "10-19", "2", "1", "50%"] in rows
    assert len({len(line) for line in text.splitlines() if line.startswith("| ")}) == 2
    assert "codec h264" in text


def test_a_report_without_frame_rate(report):
    assert report(fps=None).summary.startswith("48x32, 30 frames, 3 chunks")


def charts(page):
    return [
        ET.fromstring(part[: part.index("</svg>")] + "</svg>")
        for part in page.split("<svg")[1:]
        for part in ["<svg" + part]
    ]


def test_figures_of_different_encoders_do_not_compare(drift, report):
    reports = [report(), report(video="b.mp4", metrics=(drift(settings="S(encoder=E 2)", encoder="E 2"),))]
    message = r"clarity of a\.mp4 was measured with encoder E 1, of b\.mp4 with encoder E 2; .*measure both alike"
    for compare in (require_comparable, html_page):
        with pytest.raises(ValueError, match=message):
            compare(reports)
    with pytest.raises(ValueError, match=r"measured with S\(\), of b\.mp4 with S\(2\)"):
        require_comparable([report(), report(video="b.mp4", metrics=(drift(settings="S(2)"),))])
    with pytest.raises(ValueError, match=r"a\.mp4 was measured by protocol paper and b\.mp4 by released"):
        require_comparable([report(), report(video="b.mp4", protocol="released")])
    require_comparable([report(), report(video="b.mp4", metrics=(drift("motion", scores=(9.0, 9.0, 9.0)),))])


def test_chunks_without_a_score_are_named_and_left_out(drift, report):
    found = report(metrics=(drift("subject", scores=(None, 2.0, 3.0)), drift(scores=(1.0, None, 2.0))))
    assert found.remarks == (
        "Chunks in which subject found nothing to measure: 0; its drift is measured against chunk 1.",
        "Chunks in which clarity found nothing to measure: 1.",
    )
    assert json.loads(found.to_json())["metrics"]["subject"]["scores"] == [None, 2.0, 3.0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.to_markdown().splitlines()]
    assert ["0", "0-9", "-", "1", "0%"] in rows
    curves = [picture.find("polyline").get("points").split() for picture in charts(html_page([found]))]
    assert [len(curve) for curve in curves] == [2, 2]


def test_frozen_chunks_are_those_almost_without_change(report):
    assert report(still_pairs=(0.94, 0.95, 1.0)).frozen_chunks == (1, 2)
    assert report(still_pairs=(0.95, 0.95, 1.0)).is_frozen
