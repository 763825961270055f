"""Operators by fork: a process that has loaded everything and makes one in a few milliseconds.

A test that kills operators by the dozen would else spend its time on importing them. What is forked is the
same command with the same environment, a process of its own that signals reach.

Run by `Nursery`: `python -m tests.cluster.operator.nursery`, which reads a JSON line for each child.
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
from dataclasses import dataclass, field
from pathlib import Path


class Forked:
    """As much of Popen as an `Operator` uses. How it ended is not known, only that it has."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        return None if _runs(self.pid) else 0

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while _runs(self.pid):
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("operator", timeout)
            time.sleep(0.01)
        return 0


@dataclass
class Nursery:
    """Give `spawn` to `Operator`. It may be called from several threads."""

    _process: subprocess.Popen[str] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "tests.cluster.operator.nursery"]
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
            return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


def _runs(pid: int) -> bool:
    """Whether it lives; one that its parent has not yet buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def _main() -> None:
    from roundhouse_operator import cli, handlers, runtime  # noqa: F401, PLC0415  # what is to be there already

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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


if __name__ == "__main__":
    _main()
