"""Connections that the supervisor took and hands to a worker, which takes them as it would from a listener.

The supervisor's end holds so many that are on the way; the worker's end looks like a listening socket to
whoever takes connections from it. Each descriptor comes in a message of its own; the end of messages is the
end of connections.
"""

import array
import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_SIGN: Final = b"."
_RIGHTS: Final = socket.CMSG_LEN(array.array("i", [0]).itemsize)


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end, and that of the worker."""
    made = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in made:
        each.setblocking(False)
    return made


def hand(to: socket.socket, connection: socket.socket) -> bool:
    """Whether there was room for it; the descriptor here stays the caller's to close."""
    try:
        socket.send_fds(to, [_SIGN], [connection.fileno()])
    except OSError:
        return False
    return True


class Handed:
    """The worker's end. `took` is called for each that has come."""

    def __init__(self, channel: socket.socket, name: str, took: Callable[[], None]) -> None:
        self._channel = channel
        self._name = name
        self._took = took
        self.ended = asyncio.Event()
        """Nothing more comes, and all that came was taken."""

    def accept(self) -> tuple[socket.socket, None]:
        """As a listening socket does it. Raises BlockingIOError where there is none."""
        data, ancillary, _, _ = self._channel.recvmsg(len(_SIGN), _RIGHTS)
        if not data:
            asyncio.get_running_loop().remove_reader(self)
            self.ended.set()
            raise BlockingIOError
        found = array.array("i")
        for _, _, rights in ancillary:
            found.frombytes(rights)
        self._took()
        if not found:
            raise OSError(
                errno.EMFILE, os.strerror(errno.EMFILE)
            )  # it was handed over, and found no room here
        return socket.socket(fileno=found[0]), None

    def fileno(self) -> int:
        return self._channel.fileno()

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def getsockname(self) -> tuple[str]:
        return (self._name,)

    def close(self) -> None:
        with suppress(OSError):
            self._channel.close()
