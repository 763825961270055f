"""A number belongs to one run of tests at a time: nobody else ends its cluster, or takes it for its own."""

import os
import secrets
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cluster.local import ClusterError, claims, cli, lifecycle, machine
from tests.cluster.local.addresses import COUNT
from tests.cluster.local.start import _claimed_for_tests

ELSEWHERE = """
import sys
from tests.cluster.local import claims
claims._name = lambda number: sys.argv[1] + str(number)
with claims.claimed(6) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> str:
    """Claims of the test's own, whatever runs on the machine."""
    prefix = f"@roundhouse-{secrets.token_hex(4)}-"
    monkeypatch.setattr(claims, "_name", lambda number: f"{prefix}{number}".replace("@", "\0"))
    return prefix


@contextmanager
def claimed_elsewhere(prefix: str) -> Iterator[int]:
    """Number 6, by another process."""
    script = ELSEWHERE.replace("sys.argv[1]", f"{prefix!r}.replace('@', chr(0))")
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout
    assert process.stdout.readline() == b"True\n"
    try:
        yield process.pid
    finally:
        process.communicate()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, str]:
    """Clusters that are said to run, with their modes; those that are taken down are gone."""
    for number in range(COUNT):
        (tmp_path / str(number)).mkdir()
    there: dict[int, str] = {}

    def find(number: int) -> SimpleNamespace | None:
        return SimpleNamespace(mode=there[number]) if number in there else None

    monkeypatch.setattr(lifecycle, "find", find)
    monkeypatch.setattr(lifecycle, "known", lambda: sorted(there))
    monkeypatch.setattr(lifecycle, "state_folder", lambda number: tmp_path / str(number))
    monkeypatch.setattr(lifecycle, "_clear", lambda own: there.pop(own.number))
    monkeypatch.setattr(machine, "check_privileges", lambda: None)
    return there


def test_a_claim_is_told_with_its_holder_and_ends_with_it(own_names: str) -> None:
    assert claims.holder(6) == claims.NOBODY
    with claimed_elsewhere(own_names) as pid:
        assert claims.holder(6) == pid
        with claims.claimed(6) as free:
            assert not free
    assert claims.holder(6) == claims.NOBODY
    with claims.claimed(6) as free, claims.claimed(6) as again:
        assert (free, again) == (True, False)
        assert claims.holder(6) == os.getpid()


def test_what_other_tests_use_is_not_taken_down(
    own_names: str, running: dict[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    running |= {6: "full", 7: "control-plane"}
    with claimed_elsewhere(own_names) as pid:
        with pytest.raises(ClusterError, match=rf"cluster 6 is used by tests \(process {pid}\)"):
            lifecycle.down(6, print)
        cli._down(Namespace(number=0, all=True))
        assert running == {6: "full"}
        assert f"cluster 6 is used by tests (process {pid})" in capsys.readouterr().err
    cli._down(Namespace(number=0, all=True))
    assert running == {}


def test_a_run_takes_a_number_that_no_other_run_has(own_names: str, running: dict[int, str]) -> None:
    running |= {0: "full", 1: "control-plane"}
    with claimed_elsewhere(own_names), _claimed_for_tests(6, "control-plane") as number:
        assert number == 2, "neither the demo's, nor what runs and was not wanted"
        with _claimed_for_tests(2, "full") as beside:
            assert beside == 3
    with _claimed_for_tests(6, "full") as number:
        assert number == 6


def test_what_an_earlier_run_left_is_taken_again_if_it_is_of_the_kind(
    own_names: str, running: dict[int, str]
) -> None:
    running |= {6: "full"}
    with _claimed_for_tests(6, "full") as number:
        assert number == 6
    with _claimed_for_tests(6, "control-plane") as number:
        assert number == 1, "a whole cluster of another run is no control plane"
