"""Whether there is a GPU at all."""

import pytest

from roundhouse_engine.gpu_memory import used_bytes
from tests.gpu.engines import DEVICE


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    """What is asked for and cannot be done has failed."""
    if DEVICE == "cuda" and used_bytes() is None:
        pytest.fail("No GPU is seen here. `make gpu` needs one of NVIDIA's, and its driver.", pytrace=False)
