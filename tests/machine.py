"""A plugin of pytest, for `make test`: what the run takes of the machine, and what others take of it.

The disk is looked at each second: the one that the checkout is on, so what else a machine does counts as
well. On one that does nothing else all of it, with what was prepared, must stay under 30 GB. The processors'
time that the host gave to others, and how long the machine stood still, say what a test that failed at first
may have met. Both are told at the end.
"""

import shutil
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.processors import Stolen

EVERY_SECONDS: Final = 1.0
GIGABYTE: Final = 1e9


class Machine:
    """What was seen of it since it was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self.stolen = Stolen()
        self.first_bytes = self.most_bytes = self._used_bytes()
        self.longest_pause_seconds = 0.0

    def _used_bytes(self) -> int:
        return shutil.disk_usage(self._folder).used

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True, name="machine").start()

    def _watch(self) -> None:
        begun = time.monotonic()
        while not self._over.wait(EVERY_SECONDS):
            self.longest_pause_seconds = max(
                self.longest_pause_seconds, time.monotonic() - begun - EVERY_SECONDS
            )
            self.look()
            begun = time.monotonic()

    def look(self) -> None:
        self.most_bytes = max(self.most_bytes, self._used_bytes())

    def stop(self) -> None:
        self._over.set()
        self.look()


MACHINE: Final = pytest.StashKey[Machine]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Once for all workers."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[MACHINE] = machine = Machine(session.config.rootpath)
        machine.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if machine := config.stash.get(MACHINE, None):
        machine.stop()
        first, most = machine.first_bytes / GIGABYTE, machine.most_bytes / GIGABYTE
        terminalreporter.write_line(f"Disk in use: {first:.1f} GB at first, {most:.1f} GB at most")
        terminalreporter.write_line(
            f"Of the processors' time the host gave {machine.stolen.share:.0%} to others; "
            f"a thread that slept was at most {machine.longest_pause_seconds:.1f} s late"
        )
