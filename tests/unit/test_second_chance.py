"""Who is run twice, and what a run comes to then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import second_chance

ROOT = Path(second_chance.__file__).parents[1]
FAIL_AT_FIRST = """
import pathlib, pytest

@pytest.mark.parametrize("number", range({count}))
def test_it(tmp_path_factory, number):
    path = pathlib.Path({folder!r}, str(number))
    before = path.exists()
    path.touch()
    assert before, f"what {{number}} said"
"""


@pytest.mark.parametrize(
    ("count", "chances", "ends"),
    [(2, 2, "2 passed, 2 rerun"), (3, 2, "3 passed, 3 rerun"), (1, 0, "1 failed")],
    ids=["as many as may", "one more", "none offered"],
)
def test_what_failed_at_first_is_told_and_only_so_many_may(
    tmp_path: Path, count: int, chances: int, ends: str
) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(FAIL_AT_FIRST.format(count=count, folder=str(tmp_path)))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.second_chance", "-q", file],
        cwd=ROOT,
        env=os.environ | {"SECOND_CHANCES": str(chances), "SECOND_CHANCE_DELAY_SECONDS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == (0 if count <= chances else 1), run.stdout
    assert ends in run.stdout.splitlines()[-1]
    assert all(f"what {number} said" in run.stdout for number in range(count))


@pytest.mark.parametrize(("mark", "offered"), [("soak", False), ("req", True)])
def test_all_but_soaks_have_more_than_one_chance(
    mark: str, offered: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_chance, "MOST", 2)
    request.node.add_marker(mark)
    before = len(list(request.node.iter_markers("flaky")))
    second_chance.pytest_collection_modifyitems([request.node])
    assert len(list(request.node.iter_markers("flaky"))) - before == offered
