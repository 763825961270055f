"""Connections whose other side vanished without a word: the kernel finds out, if it is told to."""

import math
import socket
from typing import Final

import aiohttp

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
ENGINE_SECONDS: Final = 20.0
"""How long an engine's host may acknowledge nothing: one that vanished says no word of it."""
PROBES: Final = 2
"""How many may be left unanswered where nothing else ends a connection."""


def end_if_dead(connection: socket.socket, seconds: float) -> None:
    """Has it end once what was sent was not taken for so long, or nobody answered meanwhile.

    Connections that a listening socket accepts inherit this. Nothing else ends a write that is never taken.
    """
    if connection.family not in _INTERNET:
        return
    _probe(connection, seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(seconds * 1000))


def end_if_unanswered(connection: socket.socket, seconds: float) -> None:
    """Has it end once nobody answered for about so long and half of it, while nothing was to be sent.

    Who takes nothing may go on so: to the kernel's other clock that would be as good as dead.
    """
    if connection.family not in _INTERNET:
        return
    _probe(connection, seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def probed_sockets(seconds: float) -> aiohttp.connector.SocketFactoryType:
    """Makes sockets for aiohttp that end if unanswered."""

    def make(address: aiohttp.connector.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        end_if_unanswered(made, seconds)
        return made

    return make


def _probe(connection: socket.socket, seconds: float) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        connection.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds / 2))
