"""The API keys that there are: Secrets of one namespace, read as they are watched.

A Secret that is no key is told of in the log by its name and never by its content; what was known of it
before is dropped, because a key that was spoilt to shut somebody out must shut them out. While the API server
is away the keys that were known last go on to be good.
"""

import asyncio
import logging
from base64 import b64decode
from binascii import Error as NotBase64Error
from collections.abc import Mapping, Sequence
from typing import Final

from roundhouse_api.keys import ApiKey, KeyFormatError, read
from roundhouse_api.model import Manifest
from roundhouse_api.names import SECRET_TYPE_API_KEY

log = logging.getLogger("roundhouse.gateway.keys")

SECRETS: Final = "secrets"


class Keyring:
    """The sink of the watch on Secrets. `complete` once they were listed."""

    def __init__(self) -> None:
        self._by_secret: dict[str, ApiKey] = {}
        self._by_id: Mapping[str, ApiKey] = {}
        self._changed = asyncio.Event()
        self.complete = False

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, key_id: str) -> ApiKey | None:
        return self._by_id.get(key_id)

    async def changed(self) -> None:
        """Returns once any key has."""
        await self._changed.wait()

    def replace(self, plural: str, namespace: str, manifests: Sequence[Manifest]) -> None:
        del plural, namespace
        self._by_secret.clear()
        for manifest in manifests:
            self._take(manifest)
        self._index()
        if not self.complete:
            log.info("%d API keys", len(self))
        self.complete = True

    def apply(self, plural: str, manifest: Manifest) -> None:
        del plural
        self._take(manifest)
        self._index()

    def delete(self, plural: str, manifest: Manifest) -> None:
        del plural
        self._by_secret.pop(manifest["metadata"]["name"], None)
        self._index()

    def connected(self, plural: str, namespace: str) -> None:
        """How fresh keys are is told by nothing: requests go on with those that are known."""

    def disconnected(self, plural: str, namespace: str) -> None: ...

    def _take(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        self._by_secret.pop(name, None)
        if manifest.get("type") != SECRET_TYPE_API_KEY:
            return
        try:
            self._by_secret[name] = read(_decoded(manifest.get("data") or {}))
        except KeyFormatError as error:
            log.warning("Secret %r is no API key, and opens nothing: %s", name, error)

    def _index(self) -> None:
        """By id. Of two Secrets with the same id the first by name counts, whichever came first."""
        found: dict[str, ApiKey] = {}
        for name, key in sorted(self._by_secret.items()):
            if key.id in found:
                log.warning("Secret %r repeats the API key id %r of another Secret: ignored", name, key.id)
            else:
                found[key.id] = key
        self._by_id = found
        self._changed.set()
        self._changed = asyncio.Event()


def _decoded(data: Mapping[str, str]) -> dict[str, bytes]:
    try:
        return {field: b64decode(value, validate=True) for field, value in data.items()}
    except NotBase64Error as error:
        raise KeyFormatError(f"`data` is not base64: {error}") from error
