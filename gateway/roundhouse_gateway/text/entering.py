"""How a request that was read already enters the application: as one does that uvicorn has read."""

import asyncio
from typing import Any

from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from roundhouse_gateway.text.asking import Asking


def scope_of(protocol: HttpToolsProtocol, asking: Asking) -> HTTPScope:
    """As uvicorn makes it of a head; the path is one of those known, without a query."""
    scope: Any = {
        "type": "http",
        "asgi": {"version": protocol.asgi_version, "spec_version": "2.3"},
        "http_version": "1.1",
        "server": protocol.server,
        "client": protocol.client,
        "scheme": protocol.scheme,
        "method": "POST",
        "root_path": protocol.root_path,
        "path": asking.path,
        "raw_path": asking.raw_path,
        "query_string": b"",
        "headers": asking.headers,
        "state": protocol.app_state.copy(),
    }
    made: HTTPScope = scope
    return made


def cycle_of(
    protocol: HttpToolsProtocol, scope: HTTPScope, body: bytes, *, keep_alive: bool, more_body: bool = False
) -> RequestResponseCycle:
    """A request in progress, with so much of its body."""
    cycle = RequestResponseCycle(
        scope=scope,
        transport=protocol.transport,
        flow=protocol.flow,
        logger=protocol.logger,
        access_logger=protocol.access_logger,
        access_log=protocol.access_log,
        default_headers=protocol.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=protocol.on_response_complete,
    )
    cycle.body += body
    cycle.more_body = more_body
    cycle.message_event.set()
    return cycle
