"""The site links to the repository that it is built from."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build_site():
    spec = importlib.util.spec_from_file_location("docs_build_site", ROOT / "docs" / "build_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://host.example/group/project.git\n", "https://host.example/group/project"),
        ("https://name:secret@host.example/group/project", "https://host.example/group/project"),
        ("git@host.example:group/project.git", "https://host.example/group/project"),
        ("ssh://git@host.example:2222/group/project.git", "https://host.example/group/project"),
        ("/srv/project.git", None),
        ("../project", None),
        ("file:///srv/project.git", None),
        ("http://localhost/group/project", None),
        ("", None),
    ],
)
def test_address_of_a_remote(build_site, remote, address):
    assert build_site.public_address(remote) == address


def test_configuration_gets_the_link(build_site):
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    linked = tomllib.loads(build_site.with_repository(config, "https://host.example/group/project"))
    assert linked["project"].pop("repo_url") == "https://host.example/group/project"
    assert linked == tomllib.loads(config)
    assert build_site.with_repository(config, None) == config
