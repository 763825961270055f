"""Keys and certificates for upstreams: the Secrets and ConfigMaps that Engines name, read by that name alone.

Nobody may watch the Secrets of a namespace in which others keep theirs, so each that is named is asked for
again and again: a key that was changed is sent some seconds later. While the API server is away what was read
last goes on to be good. A Secret that is not labelled for this is not used: whoever writes Engines could
otherwise have the gateway post any Secret to an address of their choice.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from base64 import b64decode
from binascii import Error as NotBase64Error
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.metadata import KeyRef
from roundhouse_api.model import Manifest
from roundhouse_api.names import LABEL_CREDENTIAL
from roundhouse_api.v1alpha1 import Upstream
from roundhouse_gateway.access import OPEN, Access, needs_access, trust
from roundhouse_gateway.records import EngineRecord
from roundhouse_gateway.registry import Place, Registry

log = logging.getLogger("roundhouse.gateway.credentials")

SECRETS: Final = "secrets"
CONFIG_MAPS: Final = "configmaps"
UPSTREAM: Final = "upstream"
AGAIN_SECONDS: Final = 5.0
"""Between two looks at what is named."""
CHART_VALUES: Final = {SECRETS: "upstreamSecrets", CONFIG_MAPS: "upstreamConfigMaps"}
"""Which ones the gateway's Role lets it read stands there."""
_KINDS: Final = {SECRETS: "Secret", CONFIG_MAPS: "ConfigMap"}


@dataclass(frozen=True, slots=True)
class Named:
    """A Secret or ConfigMap that an Engine refers to."""

    plural: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """What was read: an object, none where there is none, or why it may not be read."""

    manifest: Manifest | None = None
    refusal: str = ""


Fetch = Callable[[Named], Awaitable[Found | None]]
"""None: nobody answers just now."""


class UnusableError(ValueError):
    """The object that is named does not hold what it should."""


class Credentials:
    """Follows what the Engines of the registry name. `complete` once everything was asked for once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._found: dict[Named, Found] = {}
        self._told: dict[Place, Access] = {}
        self._seen: dict[Place, Upstream | None] = {}
        self._news = asyncio.Event()
        self.complete = False
        registry.on_rebuild.append(self._on_rebuild)

    async def run(self, fetch: Fetch) -> None:
        """Until it is cancelled."""
        while True:
            self._news.clear()
            self._seen = self._upstreams()
            wanted = {named for engine in self._keyed() for named in _named_by(engine)}
            self._found = {named: found for named, found in self._found.items() if named in wanted}
            for named in sorted(wanted, key=lambda each: (each.namespace, each.name)):
                if (found := await fetch(named)) is not None:
                    self._found[named] = found
            self._tell()
            self.complete = self.complete or (self._registry.complete and wanted <= self._found.keys())
            try:
                async with asyncio.timeout(AGAIN_SECONDS if wanted else None):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _on_rebuild(self) -> None:
        """Looks at once where an Engine is new, or has changed, or has gone."""
        if not self.complete or self._upstreams() != self._seen:
            self._news.set()

    def _keyed(self) -> Iterable[EngineRecord]:
        return (each for each in self._registry.snapshot.engines if needs_access(each.spec.upstream))

    def _upstreams(self) -> dict[Place, Upstream | None]:
        return {_place(each): each.spec.upstream for each in self._keyed()}

    def _tell(self) -> None:
        """What has changed, to the registry."""
        now = {_place(each): access_of(each, self._found) for each in self._keyed()}
        for place, access in now.items():
            before = self._told.get(place)
            if access == before:
                continue
            if access.trouble and access.trouble != (before.trouble if before else ""):
                log.warning("Engine %s/%s: %s", *place, access.trouble)
            self._registry.admit(place, access)
        for place in self._told.keys() - now.keys():
            self._registry.admit(place, None)
        self._told = now


def access_of(engine: EngineRecord, found: dict[Named, Found]) -> Access:
    """What the engine's upstream is called with; with `trouble` where it cannot be."""
    upstream = engine.spec.upstream
    if upstream is None:
        return OPEN
    try:
        return Access(
            key=_key(engine.namespace, upstream.api_key_secret_ref, found),
            ca=_certificates(engine.namespace, upstream.ca_config_map_ref, found),
            upstream=upstream,
        )
    except UnusableError as error:
        return Access(trouble=str(error), upstream=upstream)


def _named_by(engine: EngineRecord) -> Iterable[Named]:
    upstream = engine.spec.upstream
    if upstream and upstream.api_key_secret_ref:
        yield Named(SECRETS, engine.namespace, upstream.api_key_secret_ref.name)
    if upstream and upstream.ca_config_map_ref:
        yield Named(CONFIG_MAPS, engine.namespace, upstream.ca_config_map_ref.name)


def _key(namespace: str, ref: KeyRef | None, found: dict[Named, Found]) -> str:
    if ref is None:
        return ""
    manifest = _manifest(Named(SECRETS, namespace, ref.name), found)
    label = (manifest["metadata"].get("labels") or {}).get(LABEL_CREDENTIAL)
    if label != UPSTREAM:
        raise UnusableError(f"Secret {ref.name!r} lacks the label {LABEL_CREDENTIAL}: {UPSTREAM}")
    try:
        key = b64decode(_member(manifest, ref, "Secret"), validate=True).decode("ascii").strip()
    except (NotBase64Error, UnicodeDecodeError):
        key = ""
    if not key.isprintable() or not key or " " in key:
        raise UnusableError(f"Secret {ref.name!r}: what is under {ref.key!r} is no key: one word is wanted")
    return key


def _certificates(namespace: str, ref: KeyRef | None, found: dict[Named, Found]) -> str:
    if ref is None:
        return ""
    manifest = _manifest(Named(CONFIG_MAPS, namespace, ref.name), found)
    pem = _member(manifest, ref, "ConfigMap")
    try:
        trust(pem)
    except (ssl.SSLError, ValueError) as error:
        raise UnusableError(
            f"ConfigMap {ref.name!r}: what is under {ref.key!r} is no certificate in PEM: {error}"
        ) from error
    return pem


def _manifest(named: Named, found: dict[Named, Found]) -> Manifest:
    kind, seen = _KINDS[named.plural], found.get(named)
    if seen is None:
        raise UnusableError(f"{kind} {named.name!r} has not been read yet")
    if seen.manifest is None:
        raise UnusableError(f"{kind} {named.name!r} {seen.refusal or 'does not exist in its namespace'}")
    return seen.manifest


def _member(manifest: Manifest, ref: KeyRef, kind: str) -> str:
    found = (manifest.get("data") or {}).get(ref.key)
    if not found:
        raise UnusableError(f"{kind} {ref.name!r} has nothing under {ref.key!r}")
    return str(found)


def _place(engine: EngineRecord) -> Place:
    return engine.namespace, engine.name
