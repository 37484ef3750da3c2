"""All studies are listed, and each has a tiny form with sizes of its own."""

from pathlib import Path

import pytest

from studies.command import STUDIES, refuse_sizes, study

_CHECKOUT = Path(__file__).parents[2]


def test_all_folders_of_studies_are_listed():
    folders = {path.parent.name for path in _CHECKOUT.glob("studies/*/__main__.py")}
    assert folders == set(STUDIES)
    listed = (_CHECKOUT / "studies" / "README.md").read_text(encoding="utf-8")
    for name in STUDIES:
        assert f"`python -m studies.{name} " in listed


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_tiny_form(name):
    assert any(option.name == "tiny" for option in study(name).params)


def test_sizes_beside_tiny_are_refused():
    refuse_sizes({"num_chunks": None, "clip": ()}, ("num_chunks", "clip"))
    refuse_sizes({"model": "m"}, ("num_chunks",))
    with pytest.raises(ValueError, match="--tiny has sizes of its own: leave out --num-chunks"):
        refuse_sizes({"num_chunks": 3}, ("num_chunks",))
