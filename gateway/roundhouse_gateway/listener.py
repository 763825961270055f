"""The gateway's two listeners: uvicorn's server as it is run here, and what it listens on.

It leaves signals alone, and TLS handshakes to `handshakes`. Where the gateway has several workers,
connections come from their supervisor instead of a socket of its own.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from roundhouse_gateway.dead_connections import end_if_dead
from roundhouse_gateway.handshakes import Bounds, Server
from roundhouse_gateway.protocol import ConnectionLimits, limited
from roundhouse_gateway.realtime.client_socket import websockets
from roundhouse_gateway.series import Value
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.text.lane import Lane
from roundhouse_gateway.text.protocol import fast
from roundhouse_gateway.workers.handed import Handed

BACKLOG = 2048
# Longer than load balancers keep a connection: the one that listens must not be the first to close.
KEEP_ALIVE_SECONDS = 75


@dataclass(frozen=True, slots=True)
class Door:
    """Where it is listened, and how."""

    port: int
    drain_seconds: float
    handed: Handed | None = None
    """Who hands the connections on that come to the port, if not the port itself."""
    connections: Value = field(default_factory=Value)
    """Counts those that are open."""
    tls: SSLContext | None = None
    lane: Lane | None = None


class Listener(uvicorn.Server):
    """One of the gateway's two, which have one way to end. `count` has the open connections."""

    def __init__(
        self, config: uvicorn.Config, tls: SSLContext | None, limits: ConnectionLimits, count: Value
    ) -> None:
        super().__init__(config)
        self._tls = tls
        self._limits = limits
        self._count = count

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sources: list[Any] = list(sockets or ())
        if self._tls is None and not any(isinstance(each, Handed) for each in sources):
            await super().startup(sockets)
            return
        await super().startup([])
        bounds = Bounds(self._limits, self.server_state.connections, self._count)
        made: Any = [Server(each, self._tls, bounds, self._protocol) for each in sources]
        self.servers = made  # which are closed as those of a loop are

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made = make(self.config, self.server_state, self.lifespan.state)
        return cast("asyncio.Protocol", made)


def bind(settings: Settings, port: int) -> socket.socket:
    """A listening socket of the gateway's. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.create_server((settings.host, port), family=family, backlog=BACKLOG)
    end_if_dead(bound, settings.client_idle_seconds)
    return bound


@asynccontextmanager
async def listening(app: ASGIApp, settings: Settings, door: Door) -> AsyncIterator[str]:
    """Serves during the block; at its end takes nothing new and lets requests finish for a while."""
    limits = ConnectionLimits(settings.connection_limit, settings.header_limit_bytes, settings.header_seconds)
    protocol = limited(limits, door.connections)
    config = uvicorn.Config(
        app,
        loop="none",
        http=fast(protocol, door.lane) if door.lane else protocol,
        **websockets(door.connections),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe whoever comes from loopback
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(door.drain_seconds)),
    )
    config.load()
    listener = Listener(config, door.tls, limits, door.connections)
    source: Any = door.handed or bind(settings, door.port)
    serving = asyncio.create_task(listener.serve(sockets=[source]))
    try:
        yield ":".join(map(str, source.getsockname()[:2]))
    finally:
        listener.should_exit = True
        await serving
