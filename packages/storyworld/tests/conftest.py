import jaxtyping
import pytest


@pytest.fixture
def unhooked():
    """Switches off `--jaxtyping-packages`, whose own errors would come before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
