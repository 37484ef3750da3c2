"""Random numbers as a pure function of a key: the n-th word of a key needs none of the words before it.

`torch.Generator` cannot serve here: on CPU it uses only the low 32 bits of its seed, so among tens of thousands of keys
(seed, chunk, step) some pairs would share their noise. A key here is 128 bits wide, mixed from any tuple of integers by
SplitMix64 (Steele, Lea and Flood, 2014). The random bits are plain integer arithmetic; only their transform to normal
numbers is floating point, in float64 and rounded to float32.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Key = tuple[int, int]

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_LANES = (0x243F6A8885A308D3, 0x13198A2E03707344)  # digits of pi: two unrelated starts make two independent halves


def mix64(word: int) -> int:
    """SplitMix64's finalizer: a bijection of 64-bit words in which every input bit moves every output bit."""
    word &= _MASK
    word = ((word ^ (word >> _SHIFTS[0])) * _FACTORS[0]) & _MASK
    word = ((word ^ (word >> _SHIFTS[1])) * _FACTORS[1]) & _MASK
    return word ^ (word >> _SHIFTS[2])


def derive_key(*words: int) -> Key:
    """Fold a tuple of integers into a 128-bit key; order and length matter."""
    lanes = []
    for lane in _LANES:
        state = mix64(lane + len(words) * _GAMMA)
        for word in words:
            state = mix64((state ^ mix64(word + _GAMMA)) + _GAMMA)
        lanes.append(state)
    return lanes[0], lanes[1]


def random_words(key: Key, count: int) -> Int64[Tensor, " {count}"]:
    """First `count` 64-bit words of a key, as signed integers.

    A SplitMix64 sequence that starts at the key's first half, mixed once more with the second.
    """
    # int64 products wrap around modulo 2^64, which is what the algorithm wants.
    counter = torch.arange(1, count + 1, dtype=torch.int64)
    sequence = _mix64(counter * _signed(_GAMMA) + _signed(key[0]))
    return _mix64(sequence ^ _signed(key[1]))


def normal(key: Key, shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
    """Standard normal numbers in float32, two from every word by the Box-Muller transform (in float64)."""
    count = math.prod(shape)
    words = random_words(key, (count + 1) // 2)
    low_bits = (1 << 32) - 1
    radius = ((((words >> 32) & low_bits).double() + 0.5) / 2**32).log_().mul_(-2).sqrt_()
    angle = (words & low_bits).double() * (2 * math.pi / 2**32)
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return pairs.flatten()[:count].float().reshape(shape)


def permutation(key: Key, length: int) -> Int64[Tensor, " {length}"]:
    """Uniformly random permutation: the ranks of as many random words."""
    return random_words(key, length).argsort()


def _mix64(words: Int64[Tensor, " count"]) -> Int64[Tensor, " count"]:
    words = (words ^ _shifted(words, _SHIFTS[0])) * _signed(_FACTORS[0])
    words = (words ^ _shifted(words, _SHIFTS[1])) * _signed(_FACTORS[1])
    return words ^ _shifted(words, _SHIFTS[2])


def _shifted(words: Int64[Tensor, " count"], bits: int) -> Int64[Tensor, " count"]:
    """Right shift that brings in zeros; torch's own copies the sign bit."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
