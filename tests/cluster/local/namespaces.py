"""The kernel's namespaces, which Python 3.11 has no calls for: leave, enter, mount. No policy.

`os.unshare` and `os.setns` came with Python 3.12; these are the same system calls through libc.
"""

import ctypes
import os
import socket
import threading
from pathlib import Path

NEW_MOUNT = 0x00020000
NEW_IPC = 0x08000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def enter(descriptor: int, kind: int) -> None:
    """Move the calling thread (not the process) into the namespace that the descriptor stands for."""
    _checked(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: Path | str, kind: str | None, flags: int, data: str | None = None) -> None:
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _checked(result, f"mount of {source!r} on {str(target)!r}")


def listen_in(network: int, address: str, port: int) -> socket.socket:
    """A listening TCP socket in another network namespace; it stays there whoever uses it."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def bind() -> None:
        try:
            enter(network, NEW_NET)
            made.append(socket.create_server((address, port), backlog=1024))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=bind)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
