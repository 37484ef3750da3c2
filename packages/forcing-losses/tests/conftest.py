import importlib.util
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

# Timings on a shared machine say nothing about the code.
settings.register_profile("shared-machine", deadline=None, max_examples=50)
settings.load_profile("shared-machine")


@pytest.fixture
def unhooked():
    """Switches off `--jaxtyping-packages`, whose own errors would come before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def slow():
    """The slow references of tests/reference.py."""
    spec = importlib.util.spec_from_file_location("forcing_losses_reference", Path(__file__).with_name("reference.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
