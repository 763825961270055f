"""A small Kubernetes API server: real HTTP, list with pages, watch with bookmarks, history that can be lost.

It knows the resources that the gateway reads, and one by its name; tests edit it by `put` and `delete` from
their own thread. Nothing is validated: what the real one does is shown against the real one.
"""

import asyncio
import json
import secrets
import ssl
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from aiohttp import web

from tests.conformance.gateway.loop_thread import LoopThread
from tests.support import servers

Manifest = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace and name."""
APIS = {
    "engines": "roundhouse.dev/v1alpha1",
    "modelvariants": "roundhouse.dev/v1alpha1",
    "endpointslices": "discovery.k8s.io/v1",
    "secrets": "v1",
    "configmaps": "v1",
}


@dataclass(frozen=True)
class Event:
    version: int
    kind: str
    plural: str
    manifest: Manifest


@dataclass
class State:
    objects: dict[Key, Manifest] = field(default_factory=dict)
    history: list[Event] = field(default_factory=list)
    version: int = 1
    oldest: int = 0
    page: int = 2
    """The most objects that one answer to a list holds."""
    rest: dict[str, tuple[str, list[Manifest]]] = field(default_factory=dict)
    """By the token that asks for it, what a list has yet to tell: its version, and what was there then."""
    code: int = 410
    missing: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)


class FakeApiServer:
    def __init__(self, thread: LoopThread, tls: ssl.SSLContext | None = None) -> None:
        self._thread = thread
        self._tls = tls
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.state = State()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._runner is not None

    def start(self) -> None:
        self._thread.run(self._start())

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/apis/{group}/{version}/namespaces/{namespace}/{plural}", self._get)
        app.router.add_get("/api/{version}/namespaces/{namespace}/{plural}", self._get)
        app.router.add_get("/api/{version}/namespaces/{namespace}/{plural}/{name}", self._get_one)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def stop(self) -> None:
        """The API server goes away; its objects stay for when it comes back on the same port."""
        if self._runner is not None:
            self._thread.run(servers.end(self._runner))
            self._runner = None

    def put(self, plural: str, *manifests: Manifest) -> None:
        """Several are told of together."""
        self._thread.run(self._put(plural, manifests))

    def delete(self, plural: str, namespace: str, name: str) -> None:
        self._thread.run(self._delete([(plural, namespace, name)]))

    def clear(self, *plurals: str, but: Collection[Key] = ()) -> None:
        """All objects go, or those of these kinds, but for some."""
        keys = [key for key in self.state.objects if (not plurals or key[0] in plurals) and key not in but]
        self._thread.run(self._delete(keys))

    def forget_history(self, code: int = 410) -> None:
        """Watches from an older version, open ones too, are told this code in the stream: 410 is Gone."""
        self.state.code = code
        self._thread.run(self._forget())

    async def _forget(self) -> None:
        async with self._changed:
            self.state.version += 1
            self.state.oldest = self.state.version
            self.state.history.clear()
            self._changed.notify_all()

    async def _put(self, plural: str, manifests: Iterable[Manifest]) -> None:
        async with self._changed:
            for manifest in manifests:
                key = (plural, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                self._record("MODIFIED" if key in self.state.objects else "ADDED", plural, manifest)
                self.state.objects[key] = manifest
            self._changed.notify_all()

    async def _delete(self, keys: Iterable[Key]) -> None:
        async with self._changed:
            for key in keys:
                self._record("DELETED", key[0], self.state.objects.pop(key))
            self._changed.notify_all()

    def _record(self, kind: str, plural: str, manifest: Manifest) -> None:
        self.state.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.state.version)
        manifest["metadata"]["managedFields"] = [{"manager": "x" * 3000}]
        self.state.history.append(Event(self.state.version, kind, plural, json.loads(json.dumps(manifest))))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        plural, namespace = request.match_info["plural"], request.match_info["namespace"]
        self.state.requests.append(request.path_qs)
        group, version = request.match_info.get("group"), request.match_info["version"]
        api = f"{group}/{version}" if group else version
        if APIS.get(plural) != api or plural in self.state.missing:
            return _status(404, "the server could not find the requested resource")
        if plural in self.state.forbidden:
            return _status(403, f"{plural} is forbidden")
        if request.query.get("watch"):
            return await self._watch(request, plural, namespace)
        return self._list(request, plural, namespace)

    async def _get_one(self, request: web.Request) -> web.Response:
        plural, namespace, name = (request.match_info[part] for part in ("plural", "namespace", "name"))
        self.state.requests.append(request.path_qs)
        if plural in self.state.forbidden:
            return _status(403, f"{plural} {name!r} is forbidden")
        found = self.state.objects.get((plural, namespace, name))
        return web.json_response(found) if found else _status(404, f"{plural} {name!r} not found")

    def _list(self, request: web.Request, plural: str, namespace: str) -> web.Response:
        """All pages are of the moment of the first, however much has changed since."""
        begun = self.state.rest.pop(request.query.get("continue", ""), None)
        version, found = begun or (str(self.state.version), list(self._matching(request, plural, namespace)))
        limit = min(int(request.query.get("limit", 2)), self.state.page)
        meta: Manifest = {"resourceVersion": version}
        if found[limit:]:
            meta["continue"] = secrets.token_hex(8)
            self.state.rest[meta["continue"]] = version, found[limit:]
        return web.json_response({"metadata": meta, "items": found[:limit]})

    def _matching(self, request: web.Request, plural: str, namespace: str) -> Iterator[Manifest]:
        for (kind, where, _), manifest in sorted(self.state.objects.items(), key=lambda item: item[0]):
            if (kind, where) == (plural, namespace) and _selected(request, manifest):
                yield manifest

    def _since(self, version: int) -> list[Event]:
        news = takewhile(lambda event: event.version > version, reversed(self.state.history))
        return list(news)[::-1]

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        bookmark = {"kind": "X", "metadata": {"resourceVersion": str(seen)}}
        await response.write(_line("BOOKMARK", bookmark))
        while True:
            if seen < self.state.oldest:
                message = "too old resource version"
                await response.write(_line("ERROR", {"code": self.state.code, "message": message}))
                return response
            news = self._since(seen)
            await response.write(b"".join(_told(request, news, plural, namespace)))
            seen = news[-1].version if news else seen
            async with self._changed:
                while self.state.version <= seen:
                    await self._changed.wait()


def _selected(request: web.Request, manifest: Manifest) -> bool:
    label, _, value = request.query.get("labelSelector", "").partition("=")
    if label and manifest["metadata"].get("labels", {}).get(label) != value:
        return False
    field, _, value = request.query.get("fieldSelector", "").partition("=")
    return not field or bool(manifest.get(field) == value)


def _told(request: web.Request, news: list[Event], plural: str, namespace: str) -> Iterator[bytes]:
    for event in news:
        here = event.plural == plural and event.manifest["metadata"]["namespace"] == namespace
        if here and _selected(request, event.manifest):
            yield _line(event.kind, event.manifest)


def _line(kind: str, manifest: Manifest) -> bytes:
    return json.dumps({"type": kind, "object": manifest}).encode() + b"\n"


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)
