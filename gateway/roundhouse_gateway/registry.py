"""Holds the latest snapshot: takes objects from the watches, joins them anew after changes, tells its age.

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
from roundhouse_gateway.records import ENDPOINT_SLICES, read_engine, read_slice, read_variant
from roundhouse_gateway.snapshot import Observed, Snapshot, build_snapshot
from roundhouse_gateway.views import Bodies

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
        self._namespaces = tuple(namespaces)
        self._aliases_enabled = aliases_enabled
        self._clock = clock
        self._records: dict[str, dict[Place, Any]] = {plural: {} for plural in READERS}
        self._unlisted = {(plural, namespace) for plural in READERS for namespace in namespaces}
        self._lost: dict[Place, float] = dict.fromkeys(self._unlisted, clock())
        self._rebuild: asyncio.TimerHandle | None = None
        self.complete = False
        self.on_rebuild: list[Callable[[], None]] = []
        self.snapshot = Snapshot()
        self.bodies = Bodies(self.snapshot, aliases_enabled=aliases_enabled)

    def age_seconds(self) -> float:
        """How long the most outdated part has not been followed; 0 while all watches are open."""
        return self._clock() - min(self._lost.values()) if self._lost else 0.0

    def replace(self, plural: str, namespace: str, manifests: Sequence[Manifest]) -> None:
        records = self._records[plural]
        before = {place: records.pop(place) for place in list(records) if place[0] == namespace}
        for manifest in manifests:
            self._take(plural, manifest, before)
        self._unlisted.discard((plural, namespace))
        self._changed()

    def apply(self, plural: str, manifest: Manifest) -> None:
        self._take(plural, manifest, self._records[plural])
        self._changed()

    def delete(self, plural: str, manifest: Manifest) -> None:
        self._records[plural].pop(_place(manifest), None)
        self._changed()

    def connected(self, plural: str, namespace: str) -> None:
        self._lost.pop((plural, namespace), None)

    def disconnected(self, plural: str, namespace: str) -> None:
        self._lost[plural, namespace] = self._clock()

    def rebuild(self) -> None:
        """Joins all records into the new snapshot. `complete` from then on: a missing name is unknown."""
        self._rebuild = None
        observed = Observed(
            variants=list(self._records[MODEL_VARIANTS].values()),
            engines=list(self._records[ENGINES].values()),
            slices=list(self._records[ENDPOINT_SLICES].values()),
        )
        self.snapshot = build_snapshot(observed, self._namespaces, aliases_enabled=self._aliases_enabled)
        self.bodies = Bodies(self.snapshot, aliases_enabled=self._aliases_enabled)
        self.complete = True
        for told in self.on_rebuild:
            told()

    def _take(self, plural: str, manifest: Manifest, before: dict[Place, Any]) -> None:
        place = _place(manifest)
        try:
            self._records[plural][place] = READERS[plural](manifest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("%s of %s/%s: %s; what was known of it before is kept", plural, *place, error)
            if place in before:
                self._records[plural][place] = before[place]

    def _changed(self) -> None:
        if not self._unlisted and self._rebuild is None:
            self._rebuild = asyncio.get_running_loop().call_later(COALESCE_SECONDS, self.rebuild)


def _place(manifest: Manifest) -> Place:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
