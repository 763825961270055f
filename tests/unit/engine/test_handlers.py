"""Finding the handler's class again in a child process."""

import subprocess
import sys
from pathlib import Path

import pytest

from roundhouse_engine.handlers import reference, resolve
from roundhouse_pocketsphinx.handler import PocketSphinx

SCRIPT = """
from roundhouse_engine import Speech
from roundhouse_engine.handlers import reference

class Mine(Speech):
    def load(self, model, progress): ...
    def transcribe(self, windows, options, cancellation): ...

if __name__ == "__main__":
    print(reference(Mine))
"""


def test_a_class_of_a_module() -> None:
    assert reference(PocketSphinx) == "roundhouse_pocketsphinx.handler:PocketSphinx"
    assert resolve("roundhouse_pocketsphinx.handler:PocketSphinx") is PocketSphinx


def test_a_class_of_a_script_started_by_its_path(tmp_path: Path) -> None:
    script = tmp_path / "engine.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{script}:Mine"
    assert resolve(done.stdout.strip()).__name__ == "Mine"


def test_a_class_of_a_package_started_by_its_name(tmp_path: Path) -> None:
    package = tmp_path / "melodies"
    package.mkdir()
    (package / "__main__.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "melodies"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "melodies.__main__:Mine"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no_such_module:Thing", ModuleNotFoundError),
        ("roundhouse_pocketsphinx.handler:Nothing", TypeError),
        ("json:JSONDecoder", TypeError),
    ],
)
def test_what_is_no_engine(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve(name)
