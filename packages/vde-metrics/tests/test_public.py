import pytest

import vde_metrics


def test_every_public_name_exists_and_is_listed():
    for name in vde_metrics.__all__:
        assert getattr(vde_metrics, name) is not None
    assert set(vde_metrics.__all__) <= set(dir(vde_metrics))
    assert vde_metrics.__version__


def test_functions_are_not_shadowed_by_modules():
    from vde_metrics import measurement

    assert vde_metrics.measure is measurement.measure
    assert callable(vde_metrics.vde)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vde_metrics.nothing


def test_subpackages_are_public_and_name_what_they_have():
    for subpackage in (vde_metrics.vbench, vde_metrics.command_line):
        assert len(set(subpackage.__all__)) == len(subpackage.__all__) > 0
        assert not [name for name in subpackage.__all__ if not hasattr(subpackage, name)]
