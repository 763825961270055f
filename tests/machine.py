"""A plugin of pytest, for `make test`: what the run takes of the machine, and what others take of it.

All of `make test` must stay under 30 GB of disk. What is prepared before takes half of that; the run may add
as much, or it fails. The disk is looked at each second: the one that the checkout is on, so what else a
machine does counts as well, until it is too much: then what lies where tests write decides. The processors'
time that the host gave to others, and how long the machine stood still, say what a test that failed at first
may have met. All is told at the end.
"""

import getpass
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.local.paths import STATE_ROOT, cache_root
from tests.support.processors import Stolen

EVERY_SECONDS: Final = 1.0
GIGABYTE: Final = 1e9
MOST_ADDED_BYTES: Final = float(os.environ.get("MOST_DISK_GB", "15")) * GIGABYTE
_STEP_BYTES: Final = GIGABYTE
"""Folders are read anew when the disk has filled by so much more: it takes seconds."""


class Machine:
    """What was seen of it since it was made; `used` and `ours` tell the disk's bytes, all and the tests'."""

    def __init__(
        self, used: Callable[[], int], ours: Callable[[], int], most_added: float = MOST_ADDED_BYTES
    ) -> None:
        self._used, self._ours = used, ours
        self._over = threading.Event()
        self._most_added = self._ask_from = most_added
        self._ours_first = 0
        self.stolen = Stolen()
        self.first_bytes = self.most_bytes = used()
        self.added_bytes: float | None = None
        """By the tests themselves, at most; None while the disk has not filled by more than they may add."""
        self.longest_pause_seconds = 0.0

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True, name="machine").start()

    def _watch(self) -> None:
        self.begin()
        begun = time.monotonic()
        while not self._over.wait(EVERY_SECONDS):
            self.longest_pause_seconds = max(
                self.longest_pause_seconds, time.monotonic() - begun - EVERY_SECONDS
            )
            self.look()
            begun = time.monotonic()

    def begin(self) -> None:
        self._ours_first = self._ours()

    def look(self) -> None:
        self.most_bytes = max(self.most_bytes, self._used())
        if (filled := self.most_bytes - self.first_bytes) > self._ask_from:
            self._ask_from = filled + _STEP_BYTES
            self.added_bytes = max(self._ours() - self._ours_first, self.added_bytes or 0)

    def stop(self) -> None:
        self._over.set()
        self.look()

    @property
    def overfilled(self) -> bool:
        return self.added_bytes is not None and self.added_bytes > self._most_added


def folders_bytes(*folders: Path) -> int:
    """What they take of the disk they are on; those that are not there take nothing."""
    there = [str(folder) for folder in folders if folder.is_dir()]
    if not there:
        return 0
    # Its status is bad where a file goes while it is read.
    told = subprocess.run(["du", "-sxB1", *there], capture_output=True, text=True, check=False).stdout
    return sum(int(line.split()[0]) for line in told.splitlines())


def _machine(checkout: Path) -> Machine:
    written = (cache_root(), STATE_ROOT, Path(tempfile.gettempdir(), f"pytest-of-{getpass.getuser()}"))
    return Machine(lambda: shutil.disk_usage(checkout).used, lambda: folders_bytes(*written))


MACHINE: Final = pytest.StashKey[Machine]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Once for all workers."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[MACHINE] = machine = _machine(session.config.rootpath)
        machine.start()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if machine := session.config.stash.get(MACHINE, None):
        machine.stop()
        if machine.overfilled and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if machine := config.stash.get(MACHINE, None):
        first, most = machine.first_bytes / GIGABYTE, machine.most_bytes / GIGABYTE
        terminalreporter.write_line(f"Disk in use: {first:.1f} GB at first, {most:.1f} GB at most")
        if machine.added_bytes is not None:
            told = f"of it {machine.added_bytes / GIGABYTE:.1f} GB more where tests write"
            if machine.overfilled:
                told += f"; they may add {MOST_ADDED_BYTES / GIGABYTE:.0f} GB: the run has failed"
            terminalreporter.write_line(told, red=machine.overfilled)
        terminalreporter.write_line(
            f"Of the processors' time the host gave {machine.stolen.share:.0%} to others; "
            f"a thread that slept was at most {machine.longest_pause_seconds:.1f} s late"
        )
