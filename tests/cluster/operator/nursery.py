"""Operators by fork: a process that has loaded everything and makes one in a few milliseconds.

Tests that start operators by the dozen would else spend their time on importing them. What is forked is the
same command with the same environment, a process of its own that signals reach.

Run by `Nursery`: `python -m tests.cluster.operator.nursery <folder>`, which reads a JSON line for each child
and leaves in the folder how each has ended, in a file that is named like its process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

END_SECONDS = 120
"""It has nothing left to do but to end, which takes long where the machine has much else to do."""


@dataclass
class Forked:
    """As much of Popen as an `Operator` uses."""

    pid: int
    status: Path
    """Written once it has ended."""

    def poll(self) -> int | None:
        return int(self.status.read_text()) if self.status.exists() else None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("operator", timeout)
            time.sleep(0.01)
        return status


@dataclass
class Nursery:
    """Give `spawn` to `Operator`. It may be called from several threads."""

    folder: Path
    _process: subprocess.Popen[str] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "tests.cluster.operator.nursery", str(self.folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def spawn(self, environment: dict[str, str], log: Path) -> Forked:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps({"environment": environment, "log": str(log)}) + "\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
            return Forked(pid, self.folder / str(pid))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=END_SECONDS)
        self._process.stdout.close()


def _bury(folder: Path) -> None:
    """All who have ended; renamed into place, so that nobody reads half a status."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found
            unfinished = folder / f"{pid}.unfinished"
            unfinished.write_text(str(os.waitstatus_to_exitcode(status)))
            unfinished.rename(folder / str(pid))


def _fork(folder: Path) -> int:
    """The child's number, and 0 in the child. A number that comes again has no status of its last bearer."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    if pid := os.fork():
        (folder / str(pid)).unlink(missing_ok=True)
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    return pid


def _main(folder: Path) -> None:
    from roundhouse_operator import cli, handlers, runtime  # noqa: F401, PLC0415  # what is to be there already

    signal.signal(signal.SIGCHLD, lambda *_: _bury(folder))
    print("ready", flush=True)
    children = []
    for line in sys.stdin:
        wanted = json.loads(line)
        if pid := _fork(folder):
            children.append(pid)
            print(pid, flush=True)
            continue
        log = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        status = 1
        try:
            status = cli.main(["operator"])
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    for pid in children:
        if not (folder / str(pid)).exists():  # left by a test that failed: it would contend for ever
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
