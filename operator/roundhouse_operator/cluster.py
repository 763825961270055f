"""The one module that talks to the API server: raw JSON in, raw JSON out.

`kubernetes.aio` finds the configuration and brings TLS and credentials; its generated models stay
unused, because a pass over a thousand objects would spend most of its time in them. What to write, and
what a refusal means for a resource, is decided elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from typing_extensions import override

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import Kind
from roundhouse_operator.errors import (
    ConfigurationError,
    NotFoundError,
    UnreachableError,
    error_of,
    refusal_of,
)

PAGE: Final = 500
WATCH_SECONDS: Final = 290
USER_AGENT: Final = "roundhouse-operator"
APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
_WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
"""The API server sends a bookmark each minute: a watch that is silent for longer is dead."""
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

ChangeType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch. A bookmark carries nothing but the version to go on from."""

    type: ChangeType
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a kind at one moment."""

    manifests: tuple[Manifest, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Manifest | None = None
    content_type: str = "application/json"
    timeout: aiohttp.ClientTimeout = _TIMEOUT

    @override
    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody else needs to talk to the same API server in the same name. Files, and one header."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    insecure: bool
    scheme: str | None
    token: str | None


class Cluster:
    """A connection to one API server.

    `field_manager` signs every write, and `on_write(kind, verb)` counts those that were taken.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        field_manager: str,
        on_write: Callable[[str, str], None] = lambda _kind, _verb: None,
    ) -> None:
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)
        self.field_manager = field_manager
        self._on_write = on_write

    async def close(self) -> None:
        await self._rest.close()

    async def credentials(self) -> Credentials:
        """As they are now: a pod's token is read anew when it is an hour old."""
        configuration = self._configuration
        scheme, _, token = (await self._authorization() or "").partition(" ")
        return Credentials(
            server=configuration.host,
            ca_file=configuration.ssl_ca_cert,
            certificate_file=configuration.cert_file,
            key_file=configuration.key_file,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
        )

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Listing:
        """Objects of one namespace, or of all, page by page so that no answer is huge."""
        query = {"limit": str(PAGE), "labelSelector": selector}
        manifests: list[Manifest] = []
        while True:
            answer = await self._send(_Request("GET", _path(kind, namespace), query))
            metadata = answer["metadata"]
            manifests.extend(answer["items"])
            if not (token := metadata.get("continue")):
                return Listing(tuple(manifests), metadata["resourceVersion"])
            query = {**query, "continue": token}

    async def watch(
        self, kind: Kind, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Change]:
        """Changes since `resource_version` until the server ends the watch; GoneError says to list again."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": selector,
            "resourceVersion": resource_version,
        }
        async with self._open(
            _Request("GET", _path(kind, namespace), query, timeout=_WATCH_TIMEOUT)
        ) as response:
            async for line in _lines(response.content):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise refusal_of(event["object"])
                yield Change(event["type"], event["object"])

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return await self._send(_Request("GET", _path(kind, namespace, name)))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = _path(kind, manifest["metadata"]["namespace"])
        return await self._write(kind, "create", _Request("POST", path, self._signed, manifest))

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Succeeds only while the object still has the manifest's resource version."""
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"])
        return await self._write(kind, "update", _Request("PUT", path, self._signed, manifest))

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        """Server-side apply: the fields of `manifest` become ours, and those that we no longer name go."""
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"])
        query = {**self._signed, "force": "true" if force else "false"}
        return await self._write(kind, "apply", _Request("PATCH", path, query, manifest, APPLY_PATCH))

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch of the status alone."""
        path = _path(kind, namespace, name) + "/status"
        return await self._write(kind, "status", _Request("PATCH", path, self._signed, patch, MERGE_PATCH))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Deletes that very object, not one which took its name since; its dependents follow."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._write(kind, "delete", _Request("DELETE", _path(kind, namespace, name), {}, options))
        except NotFoundError:
            return

    @property
    def _signed(self) -> dict[str, str]:
        return {"fieldManager": self.field_manager}

    async def _write(self, kind: Kind, verb: str, request: _Request) -> Manifest:
        answer = await self._send(request)
        self._on_write(kind.name, verb)
        return answer

    async def _send(self, request: _Request) -> Manifest:
        async with self._open(request) as response:
            try:
                answer: Manifest = await response.json(content_type=None)
            except ValueError as error:
                raise UnreachableError(f"{request}: the answer is not JSON: {error}") from error
            return answer

    async def _authorization(self) -> str | None:
        settings = (await self._configuration.auth_settings()).get("BearerToken")
        return settings["value"] if settings else None

    @asynccontextmanager
    async def _open(self, request: _Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {
            "Content-Type": request.content_type,
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        if authorization := await self._authorization():
            headers["Authorization"] = authorization
        url = f"{self._configuration.host}{request.path}?{urlencode(request.query)}"
        try:
            answer = await self._rest.request(  # type: ignore[no-untyped-call]
                request.method, url, headers, request.body, _request_timeout=request.timeout
            )
            response: aiohttp.ClientResponse = answer.response
            async with response:
                if response.status >= 400:
                    raise error_of(response.status, response.reason or "", await response.text())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(
                f"{request}: no answer from {self._configuration.host}: {error!r}"
            ) from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of any length: aiohttp's own reader gives up at 128 KiB, and one object may be larger."""
    rest = bytearray()
    async for chunk in content.iter_any():
        first, *others = chunk.split(b"\n")
        rest += first
        for other in others:
            yield bytes(rest)
            rest = bytearray(other)


async def load_configuration() -> Configuration:
    """`KUBECONFIG` if it is set, else the pod's service account, else the user's default kubeconfig."""
    configuration = Configuration()
    try:
        await _fill(configuration)
    except kubernetes_config.ConfigException as error:
        raise ConfigurationError(
            f"{error}: set KUBECONFIG, or run as a pod with a service account"
        ) from error
    return configuration


async def _fill(configuration: Configuration) -> None:
    if "KUBECONFIG" not in os.environ and SERVICE_ACCOUNT.exists():
        kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await kubernetes_config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if namespace is not None and kind.namespaced:
        path += f"/namespaces/{quote(namespace, safe='')}"
    path += f"/{kind.plural}"
    return f"{path}/{quote(name, safe='')}" if name is not None else path
