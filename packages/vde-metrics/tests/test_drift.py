import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vde_metrics import vde
from vde_metrics.drift import chunk_weights, named_vde, slope, worst_chunk

KINDS = ("linear", "log")
kinds = st.sampled_from(KINDS)
scores = st.lists(st.floats(min_value=0.01, max_value=1e4), min_size=3, max_size=30)


@given(scores, kinds, st.booleans())
def test_equals_the_paper_written_as_loops(reference, m, kind, negate):
    m = [-v for v in m] if negate else m
    assert vde(m, kind) == pytest.approx(reference.vde(m, kind), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("kind", "normalize", "expected"),
    [
        ("linear", False, 3 * 0.5 + 2 * 0.25 + 1 * 1.0),
        ("linear", True, 3.0 / 6),
        ("log", False, math.log(3) * 0.5 + math.log(2) * 0.25),
        ("log", True, (math.log(3) * 0.5 + math.log(2) * 0.25) / math.log(6)),
    ],
)
def test_worked_example(kind, normalize, expected):
    assert vde([4.0, 2.0, 5.0, 8.0], kind, normalize=normalize) == pytest.approx(expected)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 40), kinds, st.booleans())
def test_a_constant_score_has_no_drift(value, count, kind, normalize):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vde([value] * count, kind, normalize=normalize) == 0


@given(scores, kinds, st.floats(min_value=1e-3, max_value=1e3), st.booleans())
def test_scale_and_sign_do_not_matter(m, kind, factor, normalize):
    drift = vde(m, kind, normalize=normalize)
    assert vde([factor * v for v in m], kind, normalize=normalize) == pytest.approx(drift, rel=1e-9, abs=1e-9)
    assert vde([-v for v in m], kind, normalize=normalize) == drift


@given(scores, st.data())
def test_earlier_deviations_weigh_more(m, data):
    i, j = sorted(data.draw(st.lists(st.integers(1, len(m) - 1), min_size=2, max_size=2, unique=True)))
    early, late = [1.0] * len(m), [1.0] * len(m)
    early[i] = late[j] = 2.0
    for kind in KINDS:
        assert vde(early, kind) > vde(late, kind)


@given(st.integers(3, 60), st.floats(min_value=0.01, max_value=10), kinds)
def test_normalised_error_does_not_depend_on_the_number_of_chunks(count, change, kind):
    m = [1.0] + [1.0 + change] * (count - 1)
    assert vde(m, kind, normalize=True) == pytest.approx(change)


def test_log_weights_ignore_the_last_chunk():
    assert vde([1.0, 1.0, 9.0], "log") == 0
    assert vde([1.0, 1.0, 9.0], "linear") == 8


def test_a_first_score_of_zero_is_infinite_and_warns():
    for kind in KINDS:
        with pytest.warns(RuntimeWarning, match="first chunk scores 0"):
            assert vde([0.0, 1.0, 0.0], kind) == math.inf
    with pytest.warns(RuntimeWarning, match="vde: the first chunk"):
        assert vde([0.0, 1.0], "log") == math.inf


def test_scores_may_be_any_numbers_in_a_row(unchecked):
    torch = pytest.importorskip("torch")
    assert vde(torch.tensor([4.0, 2.0, 2.0])) == vde((4, 2, 2)) == 1.5


def test_wrong_arguments():
    with pytest.raises(ValueError, match="no scores"):
        vde([])
    with pytest.raises(ValueError, match="score of chunk 1 is nan"):
        vde([1.0, math.nan])
    with pytest.raises(ValueError, match="score of chunk 0 is inf"):
        vde([math.inf, 1.0])
    with pytest.raises(ValueError, match="at least 3 chunks"):
        vde([1.0, 2.0], "log", normalize=True)


def test_unknown_weights(unchecked):
    with pytest.raises(ValueError, match="weights is 'cubic'; expected 'linear' or 'log'"):
        vde([1.0, 2.0], "cubic")


@given(st.integers(2, 50))
def test_linear_weights_count_down_to_one(count):
    assert chunk_weights(count, "linear") == list(range(count - 1, 0, -1))


@given(st.integers(2, 40), st.floats(-5, 5), st.floats(-100, 100))
def test_slope_of_a_line(count, rise, start):
    assert slope([start + rise * i for i in range(count)]) == pytest.approx(rise, abs=1e-9)


def test_slope_of_one_score():
    assert slope([3.0]) == 0


def test_worst_chunk_is_the_farthest_from_the_first():
    assert worst_chunk([1.0, 2.0, -1.5, 2.5]) == 2
    assert worst_chunk([1.0, 1.0]) is None


@given(scores, kinds, st.booleans())
def test_chunks_without_a_score_lose_their_weight_too(m, kind, normalize):
    given_scores = [m[0], None, *m[1:]]
    factors = chunk_weights(len(given_scores), kind)[1:]
    expected = sum(w * abs(v - m[0]) / m[0] for w, v in zip(factors, m[1:], strict=True))
    if normalize:
        expected /= sum(factors)
    found = named_vde(given_scores, kind, normalize=normalize, name="subject")
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_first_chunk_with_a_score_is_the_reference():
    found = named_vde([None, 4.0, 2.0, 4.0], "linear", normalize=False, name="subject")
    assert found == 2 * 0.5
    assert worst_chunk([None, 4.0, 2.0, 4.0]) == 2
    assert slope([1.0, None, 3.0]) == pytest.approx(1.0)
    assert named_vde([4.0, None, 2.0], "log", normalize=True, name="subject") == 0
    with pytest.raises(ValueError, match="subject: no chunk has anything to measure"):
        named_vde([None, None], "linear", normalize=False, name="subject")


def script_vde(scores, kind):
    """The released script's formula, in loops."""
    n = len(scores)
    if scores[0] == 0:
        return math.inf
    weights = [n - i + 1 if kind == "linear" else math.log(n - i + 1) for i in range(2, n + 1)]
    return sum(w * abs(m - scores[0]) / scores[0] for w, m in zip(weights, scores[1:], strict=True))


@pytest.mark.filterwarnings("ignore:vde. the first chunk scores 0:RuntimeWarning")
@given(st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=12), st.sampled_from(["linear", "log"]))
def test_the_released_protocol_divides_by_the_signed_first_score(scores, kind):
    assert vde(scores, kind, protocol="released") == pytest.approx(script_vde(scores, kind), rel=1e-12)


def test_the_released_protocol_makes_a_first_score_of_0_infinite_even_if_all_are_0():
    assert vde([0.0, 0.0, 0.0]) == 0
    with pytest.warns(RuntimeWarning, match="the first chunk scores 0, so"):
        assert vde([0.0, 0.0, 0.0], protocol="released") == math.inf


def test_other_protocols_are_refused(unchecked):
    with pytest.raises(ValueError, match="protocol is 'vbench'; expected 'paper' or 'released'"):
        vde([1.0, 2.0], protocol="vbench")
