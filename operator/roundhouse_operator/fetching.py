"""The writes that bring weights into their caches and out of them again.

What is to be written is decided in the core, once for each variant that wants the same weights; here it is
seen to that two passes at once do not make the same Job twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import STORE, Key
from roundhouse_operator.core.observed import Store
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.plan import Apply, Plan
from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage
from roundhouse_operator.core.weights.sweep import plan_sweep
from roundhouse_operator.errors import RefusedError
from roundhouse_operator.queue import RetryError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Fetching:
    """`touch` takes the keys that a write concerns."""

    cluster: Cluster
    cache: Cache
    touch: Callable[[Touched], None]
    later: Callable[[Key, float], None]
    """Takes keys that are to be looked at again by then."""
    loader: LoaderImage = UNTOLD
    """What removes weights from claims of others."""
    grace_seconds: float = 0.0
    """How long weights are kept that nobody wants: a variant that is replaced or renamed wants them again."""
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()
    _under_way: set[Key] = field(default_factory=set)
    _unwanted: dict[Key, float] = field(default_factory=dict)
    """Since when; after a start of the operator anew."""

    async def carry_out(self, plan: Plan, namespace: str) -> Refusal | None:
        """Raises ClusterError where the API server does not answer."""
        for apply in plan.applies:
            key = Key(apply.kind, namespace, apply.manifest["metadata"]["name"])
            if key in self._under_way or (apply.new and self.cache.has(key)):
                continue  # another variant of the same weights was quicker
            self._under_way.add(key)
            try:
                answer = await self.cluster.apply(apply.kind, apply.manifest, force=apply.force)
            except RefusedError as error:
                return Refusal(_written(apply), error.status, error.message)
            finally:
                self._under_way.discard(key)
            self.touch(self.cache.upsert(apply.kind, answer))
            logger.info("Applied %s", key)
        for delete in plan.deletes:
            await self.cluster.delete(delete.kind, delete.namespace, delete.name, delete.uid)
            logger.info("Deleted %s %s/%s", delete.kind, delete.namespace, delete.name)
        return None

    def wanted(self, namespace: str, stores: Iterable[str]) -> None:
        """Somebody wants these now, however long they were unwanted."""
        for name in stores:
            self._unwanted.pop(Key(STORE, namespace, name), None)

    async def sweep(self, key: Key) -> None:
        """A pass over a cache: takes away what nobody wants for a while; RetryError while that is unknown."""
        store = self.cache.store(key)
        if store is None or store.wanted_by or store.listed:
            self._unwanted.pop(key, None)
            return
        if not self.cache.wants.heard_all(key.namespace):
            raise RetryError("not every variant has said yet which weights it wants")
        now = self.clock()
        due = self._unwanted.setdefault(key, now) + self.grace_seconds
        if now < due:
            self.later(key, due - now)
            return
        if refusal := await self.carry_out(self._sweep(key, store), key.namespace):
            logger.warning("%s is kept: %s is refused: %s", key, refusal.child, refusal.message)
            raise RetryError(refusal.message)

    def _sweep(self, key: Key, store: Store) -> Plan:
        return plan_sweep(key.namespace, key.name, store, self.loader)


def _written(apply: Apply) -> str:
    return f"{apply.kind} {apply.manifest['metadata']['name']!r}"
