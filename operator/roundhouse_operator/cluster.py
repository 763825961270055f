"""What the operator asks of the API server: raw JSON in, raw JSON out.

What to write, and what a refusal means for a resource, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import quote

import msgspec
from kubernetes.aio.client import Configuration

from roundhouse_api.model import Manifest
from roundhouse_operator.connection import Connection, Request, decoded, lines
from roundhouse_operator.core.kinds import LEASE, POD, Key, Kind
from roundhouse_operator.core.plan import Mark
from roundhouse_operator.core.replicas import scaler_of
from roundhouse_operator.errors import ClusterError, NotFoundError, RefusedError, refusal_of

PAGE: Final = 200
"""Objects of a listing that are held at a time: a page of 500 Deployments is 25 MB of dictionaries."""
NOT_FOUND: Final = 404
WATCH_SECONDS: Final = 290
APPLY_PATCH: Final = "application/apply-patch+yaml"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
_LOG_BYTES: Final = 1 << 14

_Body = Manifest | list[Manifest]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch. A bookmark carries nothing but the version to go on from."""

    type: ChangeType
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing; all parts show the objects as of the same version."""

    manifests: tuple[Manifest, ...]
    resource_version: str


class Cluster:
    """A connection to one API server.

    `field_manager` signs every write, and `on_write(kind, verb, result)` counts them. `fence` raises where
    nothing may be written any more; it is asked before each write, but for those of the Lease.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        field_manager: str,
        on_write: Callable[[str, str, str], None] = lambda _kind, _verb, _result: None,
    ) -> None:
        self.configuration = configuration
        self._connection = Connection(configuration)
        self.field_manager = field_manager
        self._on_write = on_write
        self.fence: Callable[[], None] = lambda: None

    async def close(self) -> None:
        await self._connection.close()

    async def pages(
        self, kind: Kind, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncGenerator[Page, None]:
        """Objects of one namespace, or of all; GoneError where a listing took too long to go on."""
        query = {
            "limit": str(PAGE),
            "labelSelector": selector,
            **({"fieldSelector": fields} if fields else {}),
        }
        while True:
            answer = await self._connection.send(Request("GET", _path(kind, namespace), query))
            metadata = answer["metadata"]
            yield Page(tuple(answer.pop("items")), metadata["resourceVersion"])
            if not (token := metadata.get("continue")):
                return
            query = {**query, "continue": token}

    async def serves(self, kinds: Collection[Kind]) -> bool:
        """Whether the API server knows each of these kinds, by what it tells of their groups."""
        served = set[tuple[str, str]]()
        for version in {kind.api_version for kind in kinds}:
            try:
                answer = await self._connection.send(Request("GET", f"/apis/{version}"))
            except RefusedError as error:
                if error.status != NOT_FOUND:
                    raise
            else:
                served |= {(version, one["name"]) for one in answer["resources"]}
        return all((kind.api_version, kind.plural) in served for kind in kinds)

    async def watch(
        self, kind: Kind, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Change]:
        """Changes since `resource_version` until the server ends the watch; GoneError says to list again.

        The first is a bookmark of our own, once the watch is open: the server may have no news for a minute.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": selector,
            "resourceVersion": resource_version,
        }
        request = Request("GET", _path(kind, namespace), query, lasting=True)
        async with self._connection.open(request) as response:
            yield Change("BOOKMARK", {"metadata": {"resourceVersion": resource_version}})
            async for line in lines(response.content):
                event = decoded(request, line)
                if event["type"] == "ERROR":
                    raise refusal_of(event["object"])
                yield Change(event["type"], event["object"])

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return await self._connection.send(Request("GET", _path(kind, namespace, name)))

    async def get_metadata(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """Without spec, status or data: a Secret's data is not even sent."""
        return await self._connection.send(Request("GET", _path(kind, namespace, name), accept=METADATA_ONLY))

    async def log_tail(self, namespace: str, pod: str, container: str, *, lines: int) -> str:
        """The last lines that a container wrote, as far as they fit into a few KiB."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(_LOG_BYTES)}
        request = Request("GET", _path(POD, namespace, pod) + "/log", query, accept="*/*")
        async with self._connection.open(request) as response:
            return (await response.read()).decode(errors="replace")

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = _path(kind, manifest["metadata"]["namespace"])
        return await self._write(kind, "create", Request("POST", path, self._signed), manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Succeeds only while the object still has the manifest's resource version."""
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"])
        return await self._write(kind, "update", Request("PUT", path, self._signed), manifest)

    async def try_apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        """What `apply` would make of it: judged by the API server and by admission, and not kept."""
        request = self._application(kind, manifest, force=force)
        query = {**request.query, "dryRun": "All"}
        return await self._connection.send(replace(request, query=query, body=msgspec.json.encode(manifest)))

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        """Server-side apply: the fields of `manifest` become ours, and those that we no longer name go."""
        return await self._write(kind, "apply", self._application(kind, manifest, force=force), manifest)

    async def remove(self, kind: Kind, namespace: str, name: str, patch: list[Manifest]) -> Manifest:
        """JSON patch; refused as a whole when one of its tests fails."""
        request = Request("PATCH", _path(kind, namespace, name), self._signed, JSON_PATCH)
        return await self._write(kind, "patch", request, patch)

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch of the status alone."""
        path = _path(kind, namespace, name) + "/status"
        return await self._write(kind, "status", Request("PATCH", path, self._signed, MERGE_PATCH), patch)

    async def patch_pod_condition(self, namespace: str, name: str, condition: Manifest) -> Manifest:
        """Sets one condition of a pod and leaves the others, which the kubelet writes."""
        request = Request("PATCH", _path(POD, namespace, name) + "/status", self._signed, STRATEGIC_PATCH)
        return await self._write(POD, "status", request, {"status": {"conditions": [condition]}})

    async def scale(self, key: Key, replicas: int, *, version: int) -> int:
        """Sets `replicas` through /scale, of that very version; the version that comes of it."""
        query = {"fieldManager": scaler_of(self.field_manager)}
        request = Request("PATCH", _path(key.kind, key.namespace, key.name) + "/scale", query, MERGE_PATCH)
        patch = {"metadata": {"resourceVersion": str(version)}, "spec": {"replicas": replicas}}
        answer = await self._write(key.kind, "scale", request, patch)
        return int(answer["metadata"]["resourceVersion"])

    async def patch_pod(self, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch of what stands on a pod."""
        request = Request("PATCH", _path(POD, namespace, name), self._signed, MERGE_PATCH)
        return await self._write(POD, "patch", request, patch)

    async def mark(self, mark: Mark) -> Manifest:
        """Sets annotations and leaves all others."""
        body = {
            "metadata": {"annotations": dict(mark.annotations), **({"uid": mark.uid} if mark.uid else {})}
        }
        request = Request("PATCH", _path(mark.kind, mark.namespace, mark.name), self._signed, MERGE_PATCH)
        return await self._write(mark.kind, "patch", request, body)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Deletes that very object, not one which took its name since; its dependents follow."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._write(kind, "delete", Request("DELETE", _path(kind, namespace, name)), options)
        except NotFoundError:
            return

    def _application(self, kind: Kind, manifest: Manifest, *, force: bool) -> Request:
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"])
        query = {**self._signed, "force": "true" if force else "false"}
        return Request("PATCH", path, query, APPLY_PATCH)

    @property
    def _signed(self) -> dict[str, str]:
        return {"fieldManager": self.field_manager}

    async def _write(self, kind: Kind, verb: str, request: Request, body: _Body) -> Manifest:
        fence = _unfenced if kind == LEASE else self.fence
        fence()
        try:
            answer = await self._connection.send(
                replace(request, body=msgspec.json.encode(body), fence=fence)
            )
        except ClusterError as error:
            self._on_write(kind.name, verb, error.result)
            raise
        self._on_write(kind.name, verb, "success")
        return answer


def _unfenced() -> None:
    """The Lease decides by itself: it takes a write only of the version that it has."""


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if namespace is not None and kind.namespaced:
        path += f"/namespaces/{quote(namespace, safe='')}"
    path += f"/{kind.plural}"
    return f"{path}/{quote(name, safe='')}" if name is not None else path
