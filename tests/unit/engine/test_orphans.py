"""Processes that nobody waits for, as PID 1 has them: forgotten once they are over, and not before."""

import os
import subprocess
import sys

import pytest

from roundhouse_engine.orphans import bury
from tests.support.waiting import wait_until


def test_a_child_that_is_over_is_forgotten_when_nobody_asked_for_it_meanwhile() -> None:
    left = subprocess.Popen([sys.executable, "-c", ""])
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    wait_until(lambda: left.pid in bury(set()), seconds=60, what="it is over")
    assert running.pid not in bury(set())
    assert left.pid not in bury({left.pid, running.pid})
    with pytest.raises(ChildProcessError):
        os.waitpid(left.pid, os.WNOHANG)
    running.communicate(b"\n")
    assert running.returncode == 0
    left.wait()
