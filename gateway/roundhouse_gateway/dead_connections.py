"""Connections whose other side vanished without a word: the kernel finds out, or a look at what it knows."""

import asyncio
import logging
import math
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, Protocol
from weakref import WeakSet

import aiohttp

log = logging.getLogger("roundhouse.gateway.connections")

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
ENGINE_SECONDS: Final = 20.0
"""How long an engine's host may acknowledge nothing: one that vanished says no word of it."""
PROBES: Final = 2
"""How many may be left unanswered where nothing else ends a connection."""
LOOKS: Final = 4
"""So many within those seconds: one more, and it is certain."""

IN_ONE_TURN: Final = 200
"""How many connections are looked at in one turn of the event loop: well under a millisecond."""

_INFO: Final = struct.Struct("@ B x B B 52x I")
"""Of Linux's `tcp_info`: the state, what is unanswered (retransmits, probes), ms since the last answer."""
_SYN_SENT: Final = 2


class Watched(Protocol):
    """One connection."""

    @property
    def socket(self) -> socket.socket | None: ...

    def lose(self) -> None:
        """Has it end as if the other side had ended it."""
        ...


class Watch:
    """Ends connections to engines whose hosts acknowledge nothing any more, within one and a half times that.

    The kernel's own `TCP_USER_TIMEOUT` does not tell a host that has vanished from an engine that lives and
    reads nothing: whose host acknowledges each probe of its closed window, and may go on so. Such probes are
    up to two minutes apart, and so long it takes where a host vanishes while its window is closed.
    """

    def __init__(self, seconds: float = ENGINE_SECONDS) -> None:
        self._seconds = seconds
        self._watched: WeakSet[Watched] = WeakSet()
        self._silent: WeakSet[Watched] = WeakSet()
        self._next: asyncio.TimerHandle | None = None

    def add(self, connection: Watched) -> None:
        """Until it is closed, or nobody has it any more."""
        if connection.socket is None or connection.socket.family not in _INTERNET:
            return
        _probe(connection.socket, self._seconds)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        self._watched.add(connection)
        if self._next is None:
            self._plan()

    def make(self, address: aiohttp.connector.AddrInfoType) -> socket.socket:
        """A socket for aiohttp, watched."""
        family, kind, protocol, *_ = address
        made = _Socket(family, kind, protocol)
        self.add(made)
        return made

    def _plan(self) -> None:
        self._next = asyncio.get_running_loop().call_later(self._seconds / LOOKS, self._look)

    def _look(self) -> None:
        """Ends those that were silent the last time, too: one alone may be about to be answered."""
        before, self._silent = self._silent, WeakSet()
        self._look_at(iter(list(self._watched)), before)

    def _look_at(self, rest: Iterator[Watched], before: WeakSet[Watched]) -> None:
        """Some of them in each turn of the event loop, which has other things to do."""
        some = list(islice(rest, IN_ONE_TURN))
        for each in some:
            try:
                self._judge(each, before)
            except Exception:
                self._watched.discard(each)
                log.exception("a connection to an engine could not be ended, and is watched no longer")
        if some:
            asyncio.get_running_loop().call_soon(self._look_at, rest, before)
        else:
            self._next = None
            if self._watched:
                self._plan()

    def _judge(self, each: Watched, before: WeakSet[Watched]) -> None:
        if each.socket is None or each.socket.fileno() < 0:
            self._watched.discard(each)
        elif is_silent(each.socket, self._seconds):
            if each in before:
                self._watched.discard(each)
                each.lose()
            else:
                self._silent.add(each)


def is_silent(connection: socket.socket, seconds: float) -> bool:
    """Whether something is unanswered, and nothing has been acknowledged for so long."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:  # closed in this turn of the event loop
        return False
    state, retransmits, probes, answered_ms = _INFO.unpack(info)
    return state != _SYN_SENT and retransmits + probes > 0 and bool(answered_ms >= seconds * 1000)


def end_if_dead(connection: socket.socket, seconds: float) -> None:
    """Has it end once what was sent was not taken for so long, or nobody answered meanwhile.

    Connections that a listening socket accepts inherit this. Nothing else ends a write that is never taken.
    """
    if connection.family not in _INTERNET:
        return
    _probe(connection, seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(seconds * 1000))


class _Socket(socket.socket):
    """Watched itself, because nobody tells who uses it."""

    @property
    def socket(self) -> socket.socket:
        return self

    def lose(self) -> None:
        with suppress(OSError):  # not connected any more
            self.shutdown(socket.SHUT_RDWR)


def _probe(connection: socket.socket, seconds: float) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        connection.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds / 2))
