"""The command's file and exit status, with figures that are made up instead of measured."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench.areas import MEASURE
from tests.bench.figure import Figure, Result
from tests.support.processors import Stolen

SPEED = Figure("engines", "speed", "x real", "higher", budget=10, noise=0.1)


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "build/bench.json"
    monkeypatch.setattr(command, "OUTPUT", path)
    monkeypatch.setattr(Stolen, "share", 0.0)
    monkeypatch.setattr("sys.argv", ["bench", "--area", "engines"])
    return path


def test_budgets_that_are_met(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MEASURE, "engines", lambda: iter([Result(SPEED, 9.5)]))
    command.main()
    header, line = capsys.readouterr().out.splitlines()
    assert "Kubernetes" in header
    assert line == Result(SPEED, 9.5).line()
    assert json.loads(output.read_text()) == [Result(SPEED, 9.5).record()]


@pytest.mark.usefixtures("output")
def test_what_the_host_took_meanwhile_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Stolen, "share", 0.41)
    monkeypatch.setitem(MEASURE, "engines", lambda: iter([Result(SPEED, 9.5)]))
    command.main()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"{Result(SPEED, 9.5).line()}  (meanwhile the host took 41% of the processors)"


def test_a_missed_budget_ends_with_one_and_is_named(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURE, "engines", lambda: iter([Result(SPEED, 1)]))
    with pytest.raises(SystemExit, match="missed by more than its noise: 'speed'"):
        command.main()
    assert [one["ok"] for one in json.loads(output.read_text())] == [False]


def test_what_was_found_before_a_fault_is_kept(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Result]:
        yield Result(SPEED, 10)
        raise AssertionError("the engine heard nothing")

    monkeypatch.setitem(MEASURE, "engines", broken)
    with pytest.raises(AssertionError, match="heard nothing"):
        command.main()
    assert len(json.loads(output.read_text())) == 1
