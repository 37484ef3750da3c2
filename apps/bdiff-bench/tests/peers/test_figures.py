"""Ratios and medians of made-up times. No real time is asserted anywhere."""

import pytest

from bdiff_bench.harness import quartiles
from bdiff_bench.peers.config import YARDSTICK
from bdiff_bench.peers.figures import durations, growth, summarise

SETTING = {
    "num_chunks": 6,
    "context": 1,
    "chunk": {"frames": 2, "height": 8, "width": 8},
    "weight_bytes": 1000,
    "token_bytes": 10,
}


def line(contestant, number, arrivals, **more):
    told = {"flops": 600, "passes": 2, "tokens_read": 4, "shown": 32.0}
    sizes = {"loaded_bytes": 100, "peak_bytes": 150 + number, "device_bytes": 0}
    return {
        "shape": "default",
        "contestant": contestant,
        "round": number,
        "arrivals": arrivals,
        **told,
        **sizes,
        **more,
    }


def machine(number, rate=200.0):
    rates = {"flops_per_second": rate, "bytes_per_second": 500.0}
    return {"shape": "default", "contestant": YARDSTICK, "round": number, **rates}


def made_up():
    """Three rounds; we take 6, 12 and 6 s, the others twice, 1.5 times and three times as long."""
    steady = [[float(chunk) for chunk in range(1, 7)], [2.0 * chunk for chunk in range(1, 7)]]
    ours = [steady[0], steady[1], steady[0]]
    theirs = [[6.0, 6.0, 6.0, 9.0, 9.0, 12.0], [9.0] * 3 + [18.0] * 3, [9.0] * 3 + [18.0] * 3]
    return [
        *(line("dense", number, arrivals) for number, arrivals in enumerate(ours)),
        *(line("synchronous", number, arrivals, flops=900) for number, arrivals in enumerate(theirs)),
        *(machine(number, rate) for number, rate in enumerate((200.0, 100.0, 200.0))),
    ]


def test_ratios_are_those_of_videos_of_the_same_round():
    found = summarise(made_up(), setting=SETTING, name="default")
    ratio = found["ratios"]["dense"]["synchronous"]
    assert ratio["rounds"] == 3
    assert ratio["fps"] == {"median": 2.0, "low": 1.75, "high": 2.5}  # of 2, 1.5 and 3
    assert ratio["first"] == {"median": 6.0, "low": 5.25, "high": 7.5}  # of 6, 4.5 and 9
    assert [(row["what"], row["found"], row["met"]) for row in found["wanted"]] == [
        ("fps", 2.0, True),
        ("first", 6.0, True),
    ]


def test_figures_of_a_contestant():
    dense = summarise(made_up(), setting=SETTING, name="default")["contestants"]["dense"]
    assert dense["fps"]["median"] == 45 / 6  # 6 chunks of 2 latent frames are 4 * 12 - 3 frames
    assert dense["first_chunk_seconds"]["median"] == 1.0
    assert dense["seconds_a_chunk"]["median"] == 1.0
    assert dense["seconds_by_chunk"] == [1.0] * 6
    assert dense["share_of_matmul"]["median"] == 0.5  # 600 operations in 6 s at 200, or in 12 s at 100
    assert dense["share_of_roofline"]["high"] == pytest.approx(2040 / 500 / 6)  # weights twice, 4 tokens of 10 bytes
    assert dense["late_over_early"]["median"] == 1.0
    assert (dense["flops_a_chunk"], dense["peak_bytes"], dense["rounds"]) == (100, 152, 3)


def test_one_video_is_its_own_median():
    assert quartiles([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}
    found = summarise([line("dense", 0, [1.0, 2.0]), machine(0)], setting=SETTING, name="toy")
    assert found["contestants"]["dense"]["late_over_early"] is None
    assert found["wanted"] == []


def test_chunks_that_come_together_share_their_time():
    assert durations([6.0, 6.0, 6.0, 10.0, 10.0, 11.0]) == [2.0, 2.0, 2.0, 2.0, 2.0, 1.0]


def test_growth_compares_whole_windows():
    slower = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0]  # a window of 3, then windows of 2 new chunks
    assert growth(slower, window=3) == 2.0
    assert growth(slower[:6], window=3) is None
