"""What the API server shows of a namespace, in the operator's own cache: the same core then decides over it.

Read-only. What the caller may not read is left out, and said.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Cache
from roundhouse_operator.cluster import NOT_FOUND, Cluster
from roundhouse_operator.core.kinds import (
    API_KINDS,
    CHILD_KINDS,
    CLAIM_TEMPLATE,
    DEVICE_CLASS,
    EVENT,
    NODE,
    POD,
    RESOURCE_SLICE,
    VARIANT,
    Key,
    Kind,
)
from roundhouse_operator.errors import ClusterError, RefusedError

MANAGED: Final = f"{names.LABEL_MANAGED}=true"
FORBIDDEN: Final = 403
LAST_LINES: Final = 10
"""Of a log: the last of all may be about a request that went well."""
MANAGER_PREFIX: Final = "roundhouse/"


@dataclass(slots=True)
class Picture:
    """A namespace at one moment. `lacking` are rights that the caller does not have."""

    cluster: Cluster
    namespace: str
    cache: Cache
    lacking: set[str] = field(default_factory=set)

    def keys(self, kind: Kind) -> list[Key]:
        found = (one for one in self.cache.resources() if one.kind == kind)
        return sorted((Key(kind, one.namespace, one.name) for one in found), key=str)

    async def events(self, key: Key, most: int) -> list[Manifest]:
        """The newest events about a resource, oldest first."""
        about = f"regarding.kind={key.kind.name},regarding.name={key.name}"
        found = await _Reader(self.cluster, self.lacking).list(EVENT, self.namespace, fields=about)
        return sorted(found, key=lambda one: str(one.get("eventTime") or ""))[-most:]

    async def last_words(self, pod: str, container: str) -> str:
        try:
            return await self.cluster.log_tail(self.namespace, pod, container, lines=LAST_LINES)
        except RefusedError as error:
            if error.status == FORBIDDEN:
                self.lacking.add("get pods/log")
            return ""


async def take_picture(cluster: Cluster, namespace: str) -> Picture:
    """Raises ClusterError where nothing can be read at all."""
    reader = _Reader(cluster)
    scopes: list[tuple[Kind, str | None, str]] = [(kind, namespace, "") for kind in API_KINDS]
    scopes += [(kind, namespace, MANAGED) for kind in (*CHILD_KINDS, POD)]
    scopes += [(kind, None, "") for kind in (NODE, DEVICE_CLASS, RESOURCE_SLICE)]
    listings = await asyncio.gather(*(reader.list(*scope) for scope in scopes))
    listed = [
        (kind, manifest) for (kind, *_), found in zip(scopes, listings, strict=True) for manifest in found
    ]
    cache = Cache(_manager([manifest for kind, manifest in listed if kind in CHILD_KINDS], namespace))
    for kind, manifest in listed:
        cache.upsert(kind, manifest)
    cache.serve_claims(served=CLAIM_TEMPLATE not in reader.unserved)
    return Picture(cluster, namespace, cache, reader.lacking)


@dataclass(slots=True)
class _Reader:
    """Lists what may be listed."""

    cluster: Cluster
    lacking: set[str] = field(default_factory=set)
    unserved: set[Kind] = field(default_factory=set)

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = "", fields: str = ""
    ) -> list[Manifest]:
        pages = self.cluster.pages(kind, namespace, selector, fields=fields)
        try:
            return [one async for page in pages for one in page.manifests]
        except RefusedError as error:
            if error.status == NOT_FOUND:
                self._note_unserved(kind)
                return []
            if error.status != FORBIDDEN:
                raise
            self.lacking.add(f"list {kind.plural}" + ("" if namespace else " (in the whole cluster)"))
            return []

    def _note_unserved(self, kind: Kind) -> None:
        """The chart brings our own; the others need not be there."""
        if kind in API_KINDS:
            crd = f"{kind.plural}.{kind.group}"
            raise ClusterError(
                f"it knows no {crd}: there is no such CustomResourceDefinition (kubectl get crd). Install "
                "the chart, or upgrade the release, which brings it back"
            )
        self.unserved.add(kind)


def _manager(children: list[Manifest], namespace: str) -> str:
    """The field manager of the operator that is at work here."""
    managers = Counter(
        entry["manager"]
        for child in children
        for entry in child["metadata"].get("managedFields") or ()
        if entry["manager"].startswith(MANAGER_PREFIX)
    )
    found = managers.most_common(1)
    return found[0][0] if found else f"{MANAGER_PREFIX}{namespace}/roundhouse"


def variant_key(namespace: str, name: str) -> Key:
    return Key(VARIANT, namespace, name)
