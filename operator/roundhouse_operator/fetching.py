"""The writes that bring weights into their caches and out of them again.

What is to be written is decided in the core, once for each variant that wants the same weights; here it is
seen to that two passes at once do not make the same Job twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.plan import Apply, Plan
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
    _under_way: set[Key] = field(default_factory=set)

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

    async def sweep(self, key: Key) -> None:
        """A pass over a cache: takes it away if no variant wants it; RetryError while that is unknown."""
        store = self.cache.store(key)
        if store is None or store.wanted_by:
            return
        if not self.cache.wants.heard_all(key.namespace):
            raise RetryError("not every variant has said yet which weights it wants")
        if refusal := await self.carry_out(plan_sweep(key.namespace, key.name, store), key.namespace):
            logger.warning("%s is kept: %s is refused: %s", key, refusal.child, refusal.message)
            raise RetryError(refusal.message)


def _written(apply: Apply) -> str:
    return f"{apply.kind} {apply.manifest['metadata']['name']!r}"
