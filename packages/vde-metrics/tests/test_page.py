import xml.etree.ElementTree as ET

import pytest

from vde_metrics import html_page
from vde_metrics.reports.page import mean_scores


def charts(page):
    return [
        ET.fromstring(part[: part.index("</svg>")] + "</svg>")
        for part in page.split("<svg")[1:]
        for part in ["<svg" + part]
    ]


def test_the_page_has_a_curve_per_metric_and_needs_no_network(report):
    page = html_page([report()])
    pictures = charts(page)
    assert [picture.get("aria-label") for picture in pictures] == ["clarity of every chunk", "motion of every chunk"]
    for picture in pictures:
        (curve,) = picture.findall("polyline")
        assert len(curve.get("points").split()) == 3
    assert "http" not in page
    assert "<script" not in page
    assert page.startswith("<!doctype html>")


def test_curves_rise_where_scores_rise(drift, report):
    (curve,) = charts(html_page([report(metrics=(drift(scores=(1.0, 2.0, 1.5)),))]))[0].findall("polyline")
    x, y = zip(*(map(float, point.split(",")) for point in curve.get("points").split()), strict=True)
    assert x[0] < x[1] < x[2]
    assert y[1] < y[2] < y[0]


def test_several_videos_share_a_chart(drift, report):
    page = html_page([report(), report(video="b.mp4", metrics=(drift(scores=(1.0,) * 3),))])
    clarity, motion = charts(page)
    assert len(clarity.findall("polyline")) == 2
    assert len(motion.findall("polyline")) == 1
    assert "Drift of 2 videos" in page


def test_names_cannot_break_the_page(drift, report):
    page = html_page([report(video="<b>&\"x'.mp4", metrics=(drift("<i>"),))])
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_a_page_of_nothing():
    with pytest.raises(ValueError, match="reports is empty"):
        html_page([])


def test_means_need_videos_of_as_many_chunks():
    assert mean_scores([(1.0, None, 3.0), (3.0, None, None)]) == [2.0, None, 3.0]
    assert mean_scores([(1.0, 2.0), (3.0,)]) == []
