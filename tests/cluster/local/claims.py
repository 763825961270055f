"""Which run of tests uses which cluster, so that no other run ends it or fills it with things of its own.

A claim is an abstract socket, freed by the kernel when its holder ends. It says nothing of whether the
cluster runs: one that a run has left for the next belongs to nobody.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from .errors import ClusterError

NOBODY: Final = 0
UNKNOWN: Final = -1
_CREDENTIALS: Final = struct.Struct("3i")


@contextmanager
def claimed(number: int) -> Iterator[bool]:
    """Claims the number for as long as the context lasts; False where somebody has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        free = False
        with suppress(OSError):
            claim.bind(_name(number))
            claim.listen()
            free = True
        yield free


def holder(number: int) -> int:
    """The process that has claimed the number: NOBODY, or UNKNOWN where that cannot be said."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        try:
            question.connect(_name(number))
        except ConnectionRefusedError:
            return NOBODY
        except OSError:
            return UNKNOWN  # so many have asked that no more are let in
        told = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(told)[0]
        return pid


def refuse_while_used(number: int) -> None:
    """ClusterError where tests of another process use the cluster."""
    if (pid := holder(number)) not in (NOBODY, os.getpid()):
        raise ClusterError(
            f"cluster {number} is used by tests (process {pid}) and stays: end those first, "
            f"or take it down when they are over"
        )


def _name(number: int) -> str:
    return f"\0roundhouse-local-tests-{number}"
