"""TLS handshakes of clients: how long one may take, and how many there may be beside the connections.

A loop's own server tells of a connection only once its handshake is done, and waits a minute for that, so
that whoever connects and says nothing would be neither counted nor bounded. Here connections count from their
first moment. What is spoken behind the handshake is left to the protocol.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sized
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final, Protocol

from roundhouse_gateway.protocol import ConnectionLimits
from roundhouse_gateway.series import Value

log = logging.getLogger("roundhouse.gateway")

BEYOND: Final = 64
"""So many more than the limit may shake hands, to be told that there is no place."""
AT_ONCE: Final = 64
"""Taken in one turn of the loop, so that those who are connected have theirs."""
PAUSE_SECONDS: Final = 1.0
"""After the system has refused a connection: it has no descriptor left, or no memory."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`connections` are those that are made, and `count` tells of them and the handshakes together."""

    limits: ConnectionLimits
    connections: Sized
    count: Value


class Accepts(Protocol):
    """A listening socket, or what is like one in this."""

    def accept(self) -> tuple[socket.socket, object]: ...

    def fileno(self) -> int: ...

    def setblocking(self, flag: bool, /) -> None: ...


class Server:
    """Takes connections of a listening socket, as the servers that a loop makes. No context: no TLS."""

    def __init__(
        self,
        listening: Accepts,
        context: SSLContext | None,
        bounds: Bounds,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listening = listening
        self._context = context
        self._bounds = bounds
        self._protocol = protocol
        self._shaking: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        listening.setblocking(False)
        self._loop.add_reader(listening.fileno(), self._take)

    def close(self) -> None:
        """Takes nothing new. Handshakes that are not done come to nothing."""
        self._loop.remove_reader(self._listening.fileno())
        if self._pause is not None:
            self._pause.cancel()
        for task in self._shaking:
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._shaking, return_exceptions=True)

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("connections cannot be taken: %s", error)
                self._loop.remove_reader(self._listening.fileno())
                self._pause = self._loop.call_later(
                    PAUSE_SECONDS, self._loop.add_reader, self._listening.fileno(), self._take
                )
                return
            accepted.setblocking(False)
            if self._is_full():
                accepted.close()
                continue
            self._bounds.count.inc()
            shaking = self._loop.create_task(self._shake(accepted))
            self._shaking.add(shaking)
            shaking.add_done_callback(self._shaken)

    def _shaken(self, task: "asyncio.Task[None]") -> None:
        self._shaking.discard(task)
        self._bounds.count.inc(-1)

    def _is_full(self) -> bool:
        bounds = self._bounds
        return len(bounds.connections) + len(self._shaking) >= bounds.limits.connections + BEYOND

    async def _shake(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._bounds.limits.head_seconds if self._context else None,
            )
        except OSError:  # no TLS, not in time, or gone: nobody is there who could be told
            accepted.close()
