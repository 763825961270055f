"""An API server that has nothing in it but Leases: enough for an operator to start, lead and end.

Real HTTP; listings are empty and watches say nothing, unless `rule` answers in their place. What the real one
does is shown against the real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from roundhouse_api import names
from roundhouse_operator.core.kinds import API_KINDS
from tests.conformance.gateway.loop_thread import LoopThread
from tests.support import servers

Rule = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


async def passing(_: web.Request) -> None:
    """The rule of a server that does as it should."""


@dataclass
class EmptyApiServer:
    """Set `rule` at any time; it holds for the requests that come after."""

    rule: Rule = passing
    port: int = 0
    leases: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: int = 1
    _open: dict[asyncio.Task[Any], str] = field(default_factory=dict)
    """Watches, with what they watch."""
    _loop: LoopThread = field(default_factory=LoopThread)
    _runner: web.AppRunner | None = None

    def __enter__(self) -> Self:
        self._loop.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._runner
        self._loop.run(servers.end(self._runner))
        self._loop.close()

    def holder(self) -> str:
        """Of the one Lease that there is; empty where it was released."""
        (lease,) = self.leases.values()
        return str(lease["spec"].get("holderIdentity") or "")

    def watching(self) -> int:
        """How many watch our own kinds."""
        return sum(f"/{names.GROUP}/" in path for path in list(self._open.values()))

    def cut_watches(self) -> None:
        """Ends all that are open."""

        async def cut() -> None:
            for task in self._open:
                task.cancel()

        self._loop.run(cut())

    def write_kubeconfig(self, path: Path) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "empty",
            "clusters": [{"name": "empty", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "contexts": [{"name": "empty", "context": {"cluster": "empty", "user": "empty"}}],
            "users": [{"name": "empty", "user": {}}],
        }
        path.write_text(json.dumps(config))
        return path

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if (answer := await self.rule(request)) is not None:
            return answer
        if "/leases" in request.path:
            return await self._lease(request)
        if request.query.get("watch"):
            return await self._silence(request)
        if request.path in _DISCOVERY:
            return web.json_response(_DISCOVERY[request.path])
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": []})

    async def _silence(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        task = asyncio.current_task()
        assert task
        self._open[task] = request.path
        try:
            await response.prepare(request)
            await asyncio.Event().wait()
        except ConnectionError:
            pass  # who asked is gone
        finally:
            del self._open[task]
        return response

    async def _lease(self, request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        if request.method == "GET":
            found = self.leases.get(name)
            return web.json_response(found) if found else _refused(404, "NotFound")
        lease = await request.json()
        name = lease["metadata"]["name"]
        known = self.leases.get(name, {"metadata": {}})["metadata"].get("resourceVersion")
        if known != lease["metadata"].get("resourceVersion"):
            return _refused(409, "Conflict")
        self.version += 1
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.leases[name] = lease
        return web.json_response(lease)


def broken_watch(code: int, reason: str) -> web.Response:
    """A watch that ends in an error in its stream."""
    status = {"kind": "Status", "code": code, "reason": reason, "message": reason}
    text = json.dumps({"type": "ERROR", "object": status}) + "\n"
    return web.Response(text=text, content_type="application/json")


def _refused(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason}, status=code)


def _resource(plural: str, kind: str, *, namespaced: bool) -> dict[str, Any]:
    return {
        "name": plural,
        "kind": kind,
        "singularName": kind.lower(),
        "namespaced": namespaced,
        "verbs": ["list", "watch", "patch"],
    }


_VERSION = {"groupVersion": names.API_VERSION, "version": names.VERSION}
_DISCOVERY: dict[str, Any] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [_resource("namespaces", "Namespace", namespaced=False)]},
    "/apis": {"groups": [{"name": names.GROUP, "versions": [_VERSION], "preferredVersion": _VERSION}]},
    f"/apis/{names.API_VERSION}": {
        "resources": [_resource(kind.plural, kind.name, namespaced=True) for kind in API_KINDS]
    },
}
"""As much as kopf asks of what the cluster serves."""
