"""Muon's steps are nearly orthogonal, and of one length whatever the gradient."""

import pytest
import torch
from torch import nn

from bdiff_train.engine import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4)])
def test_orthogonalized_matrices_keep_their_directions_with_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalize(matrix) @ v.T
    kept = inner.diagonal()[s > 0.05 * s.max()]
    assert kept.min() > 0.6
    assert kept.max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4


def test_muon_steps_have_one_length_whatever_the_gradient():
    for scale in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
        optimizer = Muon([weight], 0.1)
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        singular = torch.linalg.svdvals(weight.detach().flatten(1))
        assert singular.max() == pytest.approx(0.1, rel=0.35)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="two or more axes"):
        Muon([nn.Parameter(torch.zeros(3))], 0.1)
