"""Holds the latest snapshot: takes objects from the watches, has changes joined in, tells its age.

The last good snapshot stays while the API server is away or sends what cannot be read. Changes that come
close together make one new snapshot.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_api.names import ENGINES, MODEL_VARIANTS
from roundhouse_gateway.access import Access
from roundhouse_gateway.bodies import Bodies
from roundhouse_gateway.records import ENDPOINT_SLICES, read_engine, read_slice, read_variant
from roundhouse_gateway.snapshot import Join, Snapshot

log = logging.getLogger("roundhouse.gateway.registry")

COALESCE_SECONDS = 0.01
READERS: dict[str, Callable[[Manifest], Any]] = {
    ENGINES: read_engine,
    MODEL_VARIANTS: read_variant,
    ENDPOINT_SLICES: read_slice,
}

Place = tuple[str, str]


class Registry:
    """The sink of the watches and the source of snapshots."""

    def __init__(
        self, namespaces: Sequence[str], *, aliases_enabled: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._join = Join(namespaces, aliases_enabled=aliases_enabled)
        self._put: dict[str, Callable[[Place, Any], None]] = {
            ENGINES: self._join.put_engine,
            MODEL_VARIANTS: self._join.put_variant,
            ENDPOINT_SLICES: self._join.put_slice,
        }
        self._known: dict[str, set[Place]] = {plural: set() for plural in READERS}
        self._unlisted = {(plural, namespace) for plural in READERS for namespace in namespaces}
        self._lost: dict[Place, float] = dict.fromkeys(self._unlisted, clock())
        self._rebuild: asyncio.TimerHandle | None = None
        self.complete = False
        self.on_rebuild: list[Callable[[], None]] = []
        self.snapshot = Snapshot()
        self.bodies = Bodies(aliases_enabled=aliases_enabled)

    def age_seconds(self) -> float:
        """How long the most outdated part has not been followed; 0 while all watches are open."""
        return self._clock() - min(self._lost.values()) if self._lost else 0.0

    def replace(self, plural: str, namespace: str, manifests: Sequence[Manifest]) -> None:
        there = {_place(manifest) for manifest in manifests}
        for place in [place for place in self._known[plural] if place[0] == namespace]:
            if place not in there:
                self._drop(plural, place)
        for manifest in manifests:
            self._take(plural, manifest)
        self._unlisted.discard((plural, namespace))
        self._changed()

    def apply(self, plural: str, manifest: Manifest) -> None:
        self._take(plural, manifest)
        self._changed()

    def delete(self, plural: str, manifest: Manifest) -> None:
        self._drop(plural, _place(manifest))
        self._changed()

    def admit(self, engine: Place, access: Access | None) -> None:
        """What the engine's upstream is called with from now on."""
        self._join.put_access(engine, access)
        self._changed()

    def connected(self, plural: str, namespace: str) -> None:
        self._lost.pop((plural, namespace), None)

    def disconnected(self, plural: str, namespace: str) -> None:
        self._lost[plural, namespace] = self._clock()

    def rebuild(self) -> None:
        """Joins what has changed into a new snapshot. `complete` from then on: a missing name is unknown."""
        self._rebuild = None
        changed = self._join.renew()
        self.snapshot = self._join.snapshot
        self.bodies.show(self.snapshot, changed)
        self.complete = True
        for told in self.on_rebuild:
            told()

    def _take(self, plural: str, manifest: Manifest) -> None:
        place = _place(manifest)
        try:
            record = READERS[plural](manifest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("%s of %s/%s: %s; what was known of it before is kept", plural, *place, error)
            return
        self._put[plural](place, record)
        self._known[plural].add(place)

    def _drop(self, plural: str, place: Place) -> None:
        if place in self._known[plural]:
            self._known[plural].remove(place)
            self._put[plural](place, None)

    def _changed(self) -> None:
        if not self._unlisted and self._rebuild is None:
            self._rebuild = asyncio.get_running_loop().call_later(COALESCE_SECONDS, self.rebuild)


def _place(manifest: Manifest) -> Place:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
