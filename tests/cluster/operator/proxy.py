"""A proxy in front of the real API server, with which a test meddles: it sees each request and may spoil it.

It speaks plain HTTP to whoever connects and is the administrator towards the API server. Requests of the test
itself, marked by a header, pass untouched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.cluster.local.api_server import tls_context
from tests.conformance.gateway.loop_thread import LoopThread
from tests.support import servers

DRIVER = "X-Test-Driver"
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PASSED_ON = ("Accept", "Content-Type")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `forward` gives the API server's answer, once; a rule may ask for it or not."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    forward: Callable[[], Awaitable[web.StreamResponse]] = field(repr=False)

    @property
    def writes(self) -> bool:
        return self.method in _WRITES

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in {"1", "true"}

    @property
    def of_lease(self) -> bool:
        return "/leases" in self.path

    @property
    def of_event(self) -> bool:
        return "/events" in self.path


Rule = Callable[[Call], Awaitable[web.StreamResponse]]


async def passing(call: Call) -> web.StreamResponse:
    """The rule of a proxy that does not meddle."""
    return await call.forward()


def refusal(status: int, reason: str, **headers: str) -> web.Response:
    """As the API server refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    body["message"] = f"{reason}: so the test wants it"
    return web.json_response(body, status=status, headers=headers)


@dataclass
class Proxy:
    """Set `rule` at any time; it holds for the requests that come after."""

    kubeconfig: Path
    rule: Rule = passing
    port: int = 0
    _loop: LoopThread = field(default_factory=LoopThread)
    _watches: set[asyncio.Task[Any]] = field(default_factory=set)
    _stranded: set[asyncio.Task[Any]] = field(default_factory=set)
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None
    _target: str = ""

    def start(self) -> Proxy:
        self._loop.run(self._start())
        return self

    def stop(self) -> None:
        self._loop.run(self._stop())
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write_kubeconfig(self, path: Path) -> Path:
        cluster = {"name": "proxy", "cluster": {"server": self.url}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [cluster],
            "contexts": [context],
            "users": [{"name": "proxy", "user": {}}],
        }
        path.write_text(json.dumps(config))
        return path

    def cut_watches(self) -> int:
        """Ends all watches that are open, in the middle of whatever they say; how many."""

        async def cut() -> int:
            cut_off = len(self._watches)
            for task in self._watches:
                task.cancel()
            return cut_off

        return self._loop.run(cut())

    def strand_watches(self) -> int:
        """Passes on nothing more of the watches that are open, and closes none; how many."""

        async def strand() -> int:
            self._stranded |= self._watches
            return len(self._watches)

        return self._loop.run(strand())

    async def _start(self) -> None:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._target = cluster["server"]
        connector = aiohttp.TCPConnector(ssl=tls_context(cluster, user), limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        assert self._runner
        assert self._session
        watches = list(self._watches)
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await servers.end(self._runner)
        await self._session.close()
        await asyncio.sleep(0.1)  # the transports close behind the session, and nothing tells when

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def forward() -> web.StreamResponse:
            return await self._forward(request, body)

        call = Call(request.method, request.path, dict(request.query), body, forward)
        if DRIVER in request.headers:
            return await forward()
        return await self.rule(call)

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        assert self._session
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers["Accept-Encoding"] = "identity"  # a long listing would else come compressed
        url = self._target + request.raw_path
        try:
            async with self._session.request(
                request.method, url, data=body or None, headers=headers
            ) as answer:
                if request.query.get("watch") in {"1", "true"}:
                    return await self._stream(request, answer)
                content = await answer.read()
                kind = answer.headers.get("Content-Type", "application/json")
                return web.Response(body=content, status=answer.status, headers={"Content-Type": kind})
        except aiohttp.ClientConnectionError:
            _drop(request)
            raise

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task
        self._watches.add(task)
        try:
            async for chunk in answer.content.iter_any():
                if task not in self._stranded:
                    await response.write(chunk)
        except asyncio.CancelledError:
            _drop(request)
            raise
        except (aiohttp.ClientError, ConnectionError):
            _drop(request)
        finally:
            self._watches.discard(task)
            self._stranded.discard(task)
            if answer.connection is not None and answer.connection.transport is not None:
                # Closed in order it would wait for the other side, for longer than this loop may live.
                answer.connection.transport.abort()
        return response


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextmanager
def proxied(kubeconfig: Path) -> Iterator[Proxy]:
    proxy = Proxy(kubeconfig).start()
    try:
        yield proxy
    finally:
        with suppress(TimeoutError):
            proxy.stop()
