"""Port 8081: `/metrics`, `/healthz` and `/readyz`.

Healthy means that the process does its work: the loop answers, passes end and every watch is at least being
tried. An API server that is away, slow or silent makes nothing unhealthy, because a restart would only lose
the caches; it makes the operator unready. Each answer says what is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from roundhouse_operator.metrics import Metrics
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.watch import RESYNC_SECONDS, Source

logger = logging.getLogger(__name__)

STUCK_SECONDS: Final = 600.0
"""Longer than a pass takes of which each request waits for its own time limit."""
END_SECONDS: Final = 1.0
"""For requests that are being answered when it ends."""
SILENT_SECONDS: Final = RESYNC_SECONDS + 60.0


class PortError(Exception):
    """The port for metrics and probes cannot be had."""


@dataclass(slots=True)
class Health:
    """What the probes are judged by."""

    metrics: Metrics
    queue: WorkQueue[Any]
    sources: Sequence[Source]
    leading: bool = False
    broken: str | None = None
    """What ended the watch of the API's kinds, until it runs again."""

    def ailments(self) -> Iterator[str]:
        """Why the process should be started again."""
        now = asyncio.get_running_loop().time()
        if self.leading and (age := self.queue.stalled_seconds()) > STUCK_SECONDS:
            yield f"no pass has ended for {age:.0f} s"
        for source in self.sources:
            if source.listed.is_set() and now - source.alive_at > SILENT_SECONDS:
                yield f"nothing was heard of {source.scope} for {now - source.alive_at:.0f} s"

    def lacks(self) -> Iterator[str]:
        """Why it is not ready."""
        if self.broken:
            yield f"cannot follow the API's kinds: {self.broken}"
        for source in self.sources:
            if source.failing:
                yield f"cannot follow {source.scope}: {source.failing}"
            elif not source.listed.is_set():
                yield f"{source.scope} are not listed yet"

    async def serve(self, port: int) -> None:
        """Until cancelled."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=END_SECONDS)
        await runner.setup()
        try:
            listener = _open(port)
            await web.SockSite(runner, listener).start()
            logger.info(
                "Metrics and probes are on port %d", listener.getsockname()[1], extra={"reason": "Listening"}
            )
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer([*self.ailments()])

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer([*self.ailments(), *self.lacks()])


def _open(port: int) -> socket.socket:
    try:
        return _listen(port)
    except OSError as error:
        raise PortError(f"Cannot listen on port {port}: {error}") from error


def _listen(port: int) -> socket.socket:
    """One socket for IPv4 and IPv6, because a free port of each would be two different ones."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _answer(problems: list[str]) -> web.Response:
    return web.json_response({"ok": not problems, "problems": problems}, status=503 if problems else 200)
