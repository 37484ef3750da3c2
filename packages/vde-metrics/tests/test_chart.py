from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from vde_metrics.reports.chart import nice_ticks


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@example(-5e-324, 5.0)
def test_ticks_enclose_the_range(low, span):
    ticks = nice_ticks(low, low + span)
    nothing = 1e-12 * span  # what no picture shows
    assert ticks[0] <= low + nothing
    assert ticks[-1] >= low + span - nothing
    assert 2 <= len(ticks) <= 8
    assert all(a < b for a, b in pairwise(ticks))
