"""uvicorn's server as the gateway runs it: it leaves signals alone, and TLS handshakes to `handshakes`."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any, cast

import uvicorn
from typing_extensions import override

from roundhouse_gateway.handshakes import Bounds, TlsServer
from roundhouse_gateway.protocol import ConnectionLimits
from roundhouse_gateway.series import Value


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
        if self._tls is None or sockets is None:
            await super().startup(sockets)
            return
        await super().startup([])
        bounds = Bounds(self._limits, self.server_state.connections, self._count)
        made: Any = [TlsServer(each, self._tls, bounds, self._protocol) for each in sockets]
        self.servers = made  # which are closed as those of a loop are

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made = make(self.config, self.server_state, self.lifespan.state)
        return cast("asyncio.Protocol", made)
