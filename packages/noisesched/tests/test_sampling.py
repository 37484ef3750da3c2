import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisesched import chunk_levels, sample_levels, shift_levels

LEVELS = chunk_levels(4)
level_lists = st.lists(st.floats(0.05, 0.95), min_size=1, max_size=6).map(
    lambda x: torch.tensor(x, dtype=torch.float64)
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform_below(level, shift):
    """Share of shift_levels(u) below a level, u uniform: the inverse map."""
    return shift_levels(level, 1 / shift)


@pytest.mark.parametrize("coupling", ["shift", "joint"])
@given(levels=level_lists)
def test_median_of_a_chunk_is_its_level(coupling, levels):
    t = sample_levels(levels, 4001, coupling=coupling, generator=seeded())
    torch.testing.assert_close(t.median(dim=0).values, levels, rtol=0, atol=0.03)


@pytest.mark.parametrize("coupling", ["shift", "joint"])
def test_levels_have_the_shifted_uniform_distribution_of_their_chunk(coupling):
    t = sample_levels(LEVELS, 20_000, coupling=coupling, generator=seeded(1))
    for column, level in zip(t.T, LEVELS.tolist(), strict=True):
        for threshold in (0.05, 0.3, 0.6, 0.9, 0.97):
            expected = uniform_below(threshold, level / (1 - level))
            assert (column < threshold).double().mean().item() == pytest.approx(expected, abs=0.015)


def test_shift_draws_chunks_independently():
    t = sample_levels(LEVELS, 20_000, generator=seeded(2))
    correlation = torch.corrcoef(t.T) - torch.eye(4)
    assert correlation.abs().max() < 0.03


def test_joint_uses_one_draw_for_all_chunks_of_a_video():
    t = sample_levels(LEVELS, 50, coupling="joint", generator=seeded(3))
    u = torch.stack(
        [shift_levels(column, float((1 - level) / level)) for column, level in zip(t.T, LEVELS, strict=True)]
    )
    torch.testing.assert_close(u, u[:1].expand_as(u))
    assert u[0].unique().numel() == 50
    assert (t.diff(dim=1) >= 0).all()


def test_cap_warns_and_stays_uniform_below_the_level():
    with pytest.warns(UserWarning, match="never trains a chunk above its own level"):
        t = sample_levels(LEVELS, 20_000, coupling="cap", generator=seeded(4))
    assert (t <= LEVELS).all()
    torch.testing.assert_close(t.mean(dim=0), LEVELS / 2, rtol=0, atol=0.01)


def test_the_default_coupling_is_shift_and_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        default = sample_levels(LEVELS, 8, generator=seeded(5))
    assert torch.equal(default, sample_levels(LEVELS, 8, coupling="shift", generator=seeded(5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_keep_shape_and_dtype(dtype):
    t = sample_levels(LEVELS.to(dtype), 3, generator=seeded())
    assert t.shape == (3, 4)
    assert t.dtype == dtype


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        (LEVELS, {"coupling": "caps"}, "'caps'; choose one of shift, cap, joint"),
        (LEVELS, {"batch_size": 0}, "batch_size is 0"),
        (torch.tensor([0.5, 1.0]), {}, r"coupling='shift' needs levels in \(0, 1\)"),
        (torch.tensor([0.0, 0.5]), {"coupling": "joint"}, r"coupling='joint' needs levels in \(0, 1\)"),
        (torch.tensor([0.5, 1.1]), {"coupling": "cap"}, r"coupling='cap' needs levels in \[0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(levels, options, message):
    with pytest.raises(ValueError, match=message):
        sample_levels(levels, **({"batch_size": 2, "generator": seeded()} | options))
