"""The API server, and nothing but it: lists and watches the resources that the gateway may read.

Each resource and namespace has one `Watch`, which lists once, follows from there and goes on for ever: it
continues where it was after a broken connection, and lists again only when the API server says that it cannot
go on from there (410 Gone, or an error in the stream). What the objects mean is left to whoever is given
them.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import msgspec

from roundhouse_api.model import Manifest
from roundhouse_api.names import API_VERSION, ENGINES, LABEL_MANAGED, MODEL_VARIANTS, SECRET_TYPE_API_KEY
from roundhouse_gateway import api_access
from roundhouse_gateway.api_access import Access, ClusterError
from roundhouse_gateway.credentials import CHART_VALUES, Found, Named
from roundhouse_gateway.records import ENDPOINT_SLICES

log = logging.getLogger("roundhouse.gateway.cluster")

PAGE = 500
# A watch ends and is taken up again about once a minute, so that a dead connection is noticed by then.
WATCH_SECONDS = 60
MARGIN_SECONDS = 15
CONNECT_SECONDS = 5
LONGEST_PAUSE_SECONDS = 10.0


class _ExpiredError(ClusterError):
    """The watch cannot go on where it was: all must be listed anew."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind of object to follow, or those of it that a label and a field select."""

    plural: str
    api: str
    selector: str = ""
    fields: str = ""

    def path(self, namespace: str) -> str:
        group = f"apis/{self.api}" if "/" in self.api else f"api/{self.api}"
        return f"/{group}/namespaces/{namespace}/{self.plural}"

    def query(self) -> dict[str, str]:
        selectors = {"labelSelector": self.selector, "fieldSelector": self.fields}
        return {name: value for name, value in selectors.items() if value}


WATCHED = (
    Watched(ENGINES, API_VERSION),
    Watched(MODEL_VARIANTS, API_VERSION),
    Watched(ENDPOINT_SLICES, "discovery.k8s.io/v1", f"{LABEL_MANAGED}=true"),
)
API_KEYS = Watched("secrets", "v1", fields=f"type={SECRET_TYPE_API_KEY}")


class Sink(Protocol):
    """Who is told of the objects, and of how fresh they are."""

    def replace(self, plural: str, namespace: str, manifests: Sequence[Manifest]) -> None: ...

    def apply(self, plural: str, manifest: Manifest) -> None: ...

    def delete(self, plural: str, manifest: Manifest) -> None: ...

    def connected(self, plural: str, namespace: str) -> None: ...

    def disconnected(self, plural: str, namespace: str) -> None: ...


class ApiServer:
    """An authenticated connection to the API server that the environment names."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    @classmethod
    async def from_environment(cls) -> "ApiServer":
        return cls(await api_access.find())

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str, query: dict[str, str], read_seconds: float) -> aiohttp.ClientResponse:
        """The response to a GET, unread. A status of 400 or more raises; 410 as `_ExpiredError`."""
        authorization = await self._access.authorization()
        response = await self._session.get(
            self._access.host + path,
            params=query,
            headers={"authorization": authorization} if authorization else {},
            ssl=self._access.ssl,
            server_hostname=self._access.server_name,
            proxy=self._access.proxy,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=read_seconds),
        )
        if response.status < 400:
            return response
        async with response:
            if response.status == 410:
                raise _ExpiredError(f"{path} is no longer watched from where it was")
            if response.status == 401:
                self._access = await api_access.find()
            raise ClusterError(_refusal(response.status, path, await response.read()), response.status)

    async def fetch(self, named: Named) -> Found | None:
        """One object by its name; None where the API server does not say."""
        path = f"{Watched(named.plural, 'v1').path(named.namespace)}/{named.name}"
        try:
            async with await self.get(path, {}, MARGIN_SECONDS) as response:
                return Found(msgspec.json.decode(await response.read()))
        except ClusterError as error:
            if error.status == 404:
                return Found()
            if error.status == 403:
                value = f"gateway.{CHART_VALUES[named.plural]}"
                return Found(refusal=f"may not be read: put its name into `{value}` of the chart's values")
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            pass
        return None


class Watch:
    """Follows one kind of object in one namespace and tells `sink`."""

    def __init__(self, api: ApiServer, watched: Watched, namespace: str, sink: Sink) -> None:
        self._api = api
        self._watched = watched
        self._path = watched.path(namespace)
        self._where = (watched.plural, namespace)
        self._sink = sink
        self._version: str | None = None
        self._complaint = ""

    async def run(self) -> None:
        """Runs until it is cancelled."""
        pauses = _pauses()
        while True:
            started = time.monotonic()
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._follow(self._version)
            except _ExpiredError as error:
                self._version = None
                log.debug("%s; listing it anew", error)
            except (ClusterError, aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
                self._complain(error)
            if time.monotonic() - started > LONGEST_PAUSE_SECONDS:
                pauses = _pauses()
            await asyncio.sleep(next(pauses))

    async def _list(self) -> str:
        """All objects, handed on; the version to watch from."""
        manifests: list[Manifest] = []
        query = {"limit": str(PAGE), **self._watched.query()}
        while True:
            async with await self._api.get(self._path, query, MARGIN_SECONDS) as response:
                page = msgspec.json.decode(await response.read())
            manifests += page.get("items") or []
            meta = page["metadata"]
            if not meta.get("continue"):
                self._sink.replace(*self._where, manifests)
                return str(meta["resourceVersion"])
            query["continue"] = meta["continue"]

    async def _follow(self, version: str) -> None:
        """One watch, until the API server ends it."""
        seconds = random.randint(WATCH_SECONDS - 10, WATCH_SECONDS + 10)  # noqa: S311 - spreads reconnects
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **self._watched.query(),
        }
        async with await self._api.get(self._path, query, seconds + MARGIN_SECONDS) as response:
            self._reached()
            try:
                async for line in _lines(response.content):
                    self._on_event(msgspec.json.decode(line))
            finally:
                self._sink.disconnected(*self._where)

    def _on_event(self, event: dict[str, Any]) -> None:
        kind, manifest = event["type"], event["object"]
        if kind == "ERROR":
            raise _ExpiredError(f"{self._path} is no longer watched: {manifest.get('message')!r}")
        if kind == "DELETED":
            self._sink.delete(self._watched.plural, manifest)
        elif kind != "BOOKMARK":
            self._sink.apply(self._watched.plural, manifest)
        self._version = manifest["metadata"]["resourceVersion"]

    def _reached(self) -> None:
        if self._complaint:
            log.info("the API server answers again for %s", self._path)
        self._complaint = ""
        self._sink.connected(*self._where)

    def _complain(self, error: Exception) -> None:
        """Says what is wrong when it begins or changes, not each time it is met again."""
        complaint = (
            str(error) if isinstance(error, ClusterError) else f"no answer for {self._path}: {error!r}"
        )
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning("%s; trying again", complaint)


async def watch_all(
    api: ApiServer, followed: Iterable[tuple[Watched, str, Sink]], beside: Coroutine[Any, Any, None]
) -> None:
    """A watch for each kind, namespace and sink, and what runs `beside` them, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(beside)
        for watched, namespace, sink in followed:
            group.create_task(Watch(api, watched, namespace, sink).run())


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: one is an object, and those may be larger than a reader's limit."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line:
                yield bytes(line)


def _refusal(status: int, path: str, body: bytes) -> str:
    try:
        text = str(msgspec.json.decode(body).get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        text = body[:200].decode(errors="replace")
    match status:
        case 403:
            return f"the gateway may not read {path} ({text}); its Role must allow get, list and watch"
        case 404:
            return (
                f"the API server does not serve {path}; install the CustomResourceDefinitions of Roundhouse"
            )
        case _:
            return f"the API server answered {status} for {path}: {text}"


def _pauses() -> Iterator[float]:
    """Growing pauses between attempts, spread so that many gateways do not come back at once."""
    pause = 0.1
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
