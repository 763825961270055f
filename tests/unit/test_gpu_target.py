"""`make gpu` where the wheel for CUDA is to be had, and where it is not. What it calls is played."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEX = "https://wheels.example/cu132"
PYTHON = """#!/bin/sh
case "$*" in
*xllamacpp*) echo 2030.1 ;;
*) echo "$*" >>ran ;;
esac
"""
UV = """#!/bin/sh
case "$1" in
sync) mkdir -p .venv-gpu/bin && cp python .venv-gpu/bin/python ;;
pip) echo "$*" >asked; if [ -e out-of-reach ]; then echo "no such host" >&2; exit 2; fi ;;
*) exit 64 ;;
esac
"""


def make_gpu(folder: Path) -> subprocess.CompletedProcess[str]:
    for name, text in (("python", PYTHON), ("uv", UV)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    command = ["make", "-C", str(folder), "-f", str(ROOT / "Makefile"), "gpu"]
    command += [f"UV={folder / 'uv'}", f"WHEELS={INDEX}"]
    # What a `make` that runs these tests was told is not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_the_tests_run_with_the_wheel_for_cuda_of_the_version_in_the_lock(tmp_path: Path) -> None:
    done = make_gpu(tmp_path)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().split()
    assert asked[-1] == "xllamacpp==2030.1"
    assert asked[asked.index("--default-index") + 1] == INDEX
    assert {"--reinstall", "--no-deps"} <= set(asked), "PyPI's has the same version"
    assert "-m pytest -m gpu tests/gpu" in (tmp_path / "ran").read_text().splitlines()


def test_without_that_wheel_nothing_runs_and_the_message_says_what_was_asked_of_where(tmp_path: Path) -> None:
    (tmp_path / "out-of-reach").touch()
    done = make_gpu(tmp_path)
    assert done.returncode != 0
    for told in (f"asked {INDEX} for the wheel xllamacpp==2030.1,", "no such host", "WHEELS="):
        assert told in done.stderr
    assert not (tmp_path / "ran").exists()
