"""What a run of all tests may add to the disk, and whose it is."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import machine
from tests.machine import GIGABYTE, Machine, folders_bytes

ROOT = Path(machine.__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    used: tuple[int, ...]
    """Gigabytes of the disk, look by look."""
    ours: tuple[int, ...]
    """Gigabytes where tests write, at first and whenever they are asked for."""
    overfilled: bool


CASES = [
    Case("less than they may add", (50, 58, 60), (14,), overfilled=False),
    Case("more, and it is theirs", (50, 58, 66), (14, 30), overfilled=True),
    Case("more, and it was gone at the end", (50, 66, 51), (14, 30), overfilled=True),
    Case("more, and it is others'", (50, 58, 80), (14, 22), overfilled=False),
    Case("others' first, then theirs", (50, 80, 90), (14, 22, 32), overfilled=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_only_what_the_run_itself_added_counts(case: Case) -> None:
    used, ours = iter(case.used), iter(case.ours)
    seen = Machine(lambda: int(next(used) * GIGABYTE), lambda: int(next(ours) * GIGABYTE), 15 * GIGABYTE)
    seen.begin()
    for _ in case.used[2:]:
        seen.look()
    seen.stop()
    assert seen.overfilled is case.overfilled
    assert list(used) == list(ours) == []


def test_a_folder_takes_what_its_files_take_on_disk(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 << 20)
    assert folders_bytes(tmp_path, tmp_path / "missing") >= 8 << 20
    assert folders_bytes(tmp_path / "missing") == 0


def test_a_run_that_added_too_much_fails_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("def test_it(): pass")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.machine", "-q", file],
        cwd=ROOT,
        env=os.environ | {"MOST_DISK_GB": "-1000"},  # whatever others do to the disk meanwhile
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in run.stdout
    assert "they may add -1000 GB: the run has failed" in run.stdout
    assert run.returncode == 1
