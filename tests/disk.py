"""A plugin of pytest, for `make test`: how much disk the run takes, looked at each second, told at the end.

Of the disk that the checkout is on, so what else a machine does counts as well. On one that does nothing
else all of it, with what was prepared, must stay under 30 GB.
"""

import shutil
import threading
from pathlib import Path
from typing import Final

import pytest

EVERY_SECONDS: Final = 1.0
GIGABYTE: Final = 1e9


class Disk:
    """The most bytes in use since `start`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self.first_bytes = self.most_bytes = self._used_bytes()

    def _used_bytes(self) -> int:
        return shutil.disk_usage(self._folder).used

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True, name="disk").start()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self.look()

    def look(self) -> None:
        self.most_bytes = max(self.most_bytes, self._used_bytes())

    def stop(self) -> None:
        self._over.set()
        self.look()


DISK: Final = pytest.StashKey[Disk]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Once for all workers."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[DISK] = disk = Disk(session.config.rootpath)
        disk.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if disk := config.stash.get(DISK, None):
        disk.stop()
        first, most = disk.first_bytes / GIGABYTE, disk.most_bytes / GIGABYTE
        terminalreporter.write_line(f"Disk in use: {first:.1f} GB at first, {most:.1f} GB at most")
