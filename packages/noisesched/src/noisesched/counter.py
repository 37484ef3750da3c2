"""Random numbers as a pure function of a key.

`torch.Generator` does not fit: on a CPU it uses only the low 32 bits of its seed, so among tens of thousands of keys
(seed, chunk, step) some would have the same noise. A key here has 128 bits. SplitMix64 (Steele, Lea and Flood, 2014)
mixes it from any tuple of integers. The random bits come from integer arithmetic. Only their transform to normal
numbers uses floating point: float64, rounded to float32.
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
_LANES = (0x243F6A8885A308D3, 0x13198A2E03707344)  # digits of pi: two starts make two independent halves


def mix64(word: int) -> int:
    """The finalizer of SplitMix64: a bijection of 64-bit words where every input bit affects every output bit."""
    word &= _MASK
    word = ((word ^ (word >> _SHIFTS[0])) * _FACTORS[0]) & _MASK
    word = ((word ^ (word >> _SHIFTS[1])) * _FACTORS[1]) & _MASK
    return word ^ (word >> _SHIFTS[2])


def derive_key(*words: int) -> Key:
    """Make a 128-bit key from a tuple of integers. It depends on their order and number."""
    lanes = []
    for lane in _LANES:
        state = mix64(lane + len(words) * _GAMMA)
        for word in words:
            state = mix64((state ^ mix64(word + _GAMMA)) + _GAMMA)
        lanes.append(state)
    return lanes[0], lanes[1]


def random_words(key: Key, count: int) -> Int64[Tensor, " {count}"]:
    """The first `count` 64-bit words of a key, as signed integers.

    It is the SplitMix64 sequence that starts at the key's first half, mixed once more with the second half.
    """
    # int64 products wrap around modulo 2^64, as the algorithm needs.
    counter = torch.arange(1, count + 1, dtype=torch.int64)
    sequence = _mix64(counter * _signed(_GAMMA) + _signed(key[0]))
    return _mix64(sequence ^ _signed(key[1]))


def normal(key: Key, shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
    """Standard normal numbers in float32. The Box-Muller transform, in float64, makes two from every word."""
    count = math.prod(shape)
    words = random_words(key, (count + 1) // 2)
    low_bits = (1 << 32) - 1
    radius = ((((words >> 32) & low_bits).double() + 0.5) / 2**32).log_().mul_(-2).sqrt_()
    angle = (words & low_bits).double() * (2 * math.pi / 2**32)
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return pairs.flatten()[:count].float().reshape(shape)


def permutation(key: Key, length: int) -> Int64[Tensor, " {length}"]:
    """A uniformly random permutation: the order of as many random words."""
    return random_words(key, length).argsort()


def _mix64(words: Int64[Tensor, " count"]) -> Int64[Tensor, " count"]:
    words = (words ^ _shifted(words, _SHIFTS[0])) * _signed(_FACTORS[0])
    words = (words ^ _shifted(words, _SHIFTS[1])) * _signed(_FACTORS[1])
    return words ^ _shifted(words, _SHIFTS[2])


def _shifted(words: Int64[Tensor, " count"], bits: int) -> Int64[Tensor, " count"]:
    """Right shift that fills with zeros. torch's own shift copies the sign bit."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
