"""torch in the environment that the tests run in: it loads, whatever installed it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "engine-images/base/torch_without_cuda.py"


def prepare_torch() -> None:
    """Make the stand-ins for CUDA's libraries, where they are missing: `uv sync` alone makes none."""
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    packages = Path(found.origin).parents[1]
    if not (packages / "torch/lib/libcublas.so.13").exists():
        subprocess.run([sys.executable, SCRIPT, packages], check=True)
