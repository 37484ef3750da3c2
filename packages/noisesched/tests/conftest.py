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
