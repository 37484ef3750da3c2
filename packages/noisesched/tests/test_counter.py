import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisesched.counter import derive_key, mix64, normal, permutation, random_words

GAMMA = 0x9E3779B97F4A7C15
words64 = st.integers(0, 2**64 - 1)


def test_mix64_is_the_published_splitmix64():
    seed = 1234567
    outputs = [mix64(seed + i * GAMMA) for i in range(1, 6)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(key=st.tuples(words64, words64))
def test_tensor_words_equal_python_integers(key):
    expected = [mix64(mix64(key[0] + i * GAMMA) ^ key[1]) for i in range(1, 8)]
    assert [word % 2**64 for word in random_words(key, 7).tolist()] == expected


@given(key=st.tuples(words64, words64), short=st.integers(0, 20), more=st.integers(0, 20))
def test_a_longer_draw_starts_with_the_shorter_one(key, short, more):
    assert torch.equal(random_words(key, short + more)[:short], random_words(key, short))


@given(first=st.lists(words64, max_size=4), second=st.lists(words64, max_size=4))
def test_keys_of_different_tuples_differ_in_both_halves(first, second):
    if first == second:
        assert derive_key(*first) == derive_key(*second)
    else:
        assert all(a != b for a, b in zip(derive_key(*first), derive_key(*second), strict=True))


def test_keys_of_a_long_video_are_all_different():
    keys = {derive_key(seed, step, index, 3) for seed in (0, 1, 2**32) for step in range(20) for index in range(200)}
    assert len({low for low, _ in keys}) == len({high for _, high in keys}) == 3 * 20 * 200


def test_normal_numbers_follow_the_normal_distribution():
    x = normal(derive_key(11), (400, 501)).double().flatten()
    n = x.numel()
    assert x.mean().abs() < 4 / math.sqrt(n)
    assert (x.var() - 1).abs() < 4 * math.sqrt(2 / n)
    assert (x.pow(4).mean() - 3).abs() < 4 * math.sqrt(96 / n)
    cdf = torch.special.ndtr(x.sort().values)
    distance = (cdf - torch.linspace(0, 1, n, dtype=torch.float64)).abs().max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov at the 0.1% level


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_normal_numbers_are_box_muller_in_float64_whatever_the_default_dtype(dtype):
    words = [word % 2**64 for word in random_words(derive_key(5), 500).tolist()]
    exact = []
    for word in words:
        radius = math.sqrt(-2 * math.log(((word >> 32) + 0.5) / 2**32))
        angle = 2 * math.pi * (word % 2**32) / 2**32
        exact += [radius * math.cos(angle), radius * math.sin(angle)]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = normal(derive_key(5), (1000,))
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), torch.tensor(exact, dtype=torch.float64), rtol=2**-24, atol=1e-12)


def test_neighbouring_numbers_and_neighbouring_keys_are_uncorrelated():
    x = torch.stack([normal(derive_key(0, 0, index), (50_001,)) for index in range(4)])
    assert (torch.corrcoef(x) - torch.eye(4)).abs().max() < 0.02
    for lag in (1, 2, 3):
        assert torch.corrcoef(torch.stack([x[0, lag:], x[0, :-lag]]))[0, 1].abs() < 0.02


@pytest.mark.parametrize("shape", [(), (1,), (3, 0), (3, 5)])
def test_normal_has_the_shape_that_was_asked_for(shape):
    assert normal(derive_key(1), shape).shape == shape


def test_permutations_are_uniform():
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    for word in range(6000):
        counts[tuple(permutation(derive_key(word), 3).tolist())] += 1
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert chi_squared < 20.5  # 5 degrees of freedom, 0.1% level
