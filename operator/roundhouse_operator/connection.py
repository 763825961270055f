"""How the operator reaches the API server: TLS, credentials, timeouts, and JSON out of bytes.

`kubernetes.aio` brings TLS and credentials; its generated models stay unused, because a pass over a
thousand objects would spend most of its time in them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from typing_extensions import override
from yarl import URL

from roundhouse_api.model import Manifest
from roundhouse_operator.configuration import authorization
from roundhouse_operator.errors import UnreachableError, error_of

USER_AGENT: Final = "roundhouse-operator"
JSON: Final = "application/json"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
_WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
"""The API server sends a bookmark each minute: a watch that is silent for longer is dead."""

_READ_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Request:
    """`fence` is asked in the moment in which the body goes out, and raises where it may not."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    body: bytes | None = None
    accept: str = JSON
    lasting: bool = False
    """A watch, which ends when the server ends it."""
    fence: Callable[[], None] = lambda: None

    @override
    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class _FencedBody(aiohttp.BytesPayload):
    """A body that asks once more, in the moment in which it goes out, whether it may."""

    def __init__(self, text: bytes, content_type: str, fence: Callable[[], None]) -> None:
        super().__init__(text, content_type=content_type)
        self._fence = fence

    @override
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._fence()
        await super().write_with_length(writer, content_length)


class Connection:
    """A pool of connections to one API server, at the address and with the credentials of a configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._session = _session(configuration)

    async def close(self) -> None:
        await self._session.close()

    async def send(self, request: Request) -> Manifest:
        async with self.open(request) as response:
            answer: Manifest = decoded(request, await response.read())
            return answer

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        configuration, headers = self.configuration, {"Accept": request.accept}
        if value := await authorization(configuration):
            headers["Authorization"] = value
        url = URL(f"{configuration.host}{request.path}?{urlencode(request.query)}", encoded=True)
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=_payload(request),
                timeout=_WATCH_TIMEOUT if request.lasting else _TIMEOUT,
                proxy=configuration.proxy,
                proxy_headers=configuration.proxy_headers,
                server_hostname=configuration.tls_server_name,
            ) as response:
                if response.status >= 400:
                    text, after = await response.text(), response.headers.get("Retry-After", "")
                    raise error_of(response.status, response.reason or "", text, after)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{request}: no answer from {configuration.host}: {error!r}") from error


def _payload(request: Request) -> aiohttp.BytesPayload | None:
    if request.body is None:
        return None
    return _FencedBody(request.body, request.content_type, request.fence)


def _session(configuration: Configuration) -> aiohttp.ClientSession:
    security = RESTClientObject(configuration).ssl_context
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=security, limit=configuration.connection_pool_maxsize),
        trust_env=True,
        headers={"User-Agent": USER_AGENT},
        read_bufsize=_READ_BYTES,
    )


def decoded(request: Request, text: bytes) -> Any:  # noqa: ANN401
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UnreachableError(f"{request}: the answer is not JSON: {error}") from error


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of any length: aiohttp's own reader gives up at 128 KiB, and one object may be larger."""
    rest = bytearray()
    async for chunk in content.iter_any():
        first, *others = chunk.split(b"\n")
        rest += first
        for other in others:
            yield bytes(rest)
            rest = bytearray(other)
