"""The writes that bring weights into their caches.

What is to be written is decided in the core, once for each variant that wants the same weights; here it is
seen to that two passes at once do not make the same Job twice. How weights go again is in `sweeping`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.plan import Apply, Mark, Plan
from roundhouse_operator.core.weights.marking import without_marks
from roundhouse_operator.errors import NotFoundError, RefusedError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Fetching:
    """`touch` takes the keys that a write concerns."""

    cluster: Cluster
    cache: Cache
    touch: Callable[[Touched], None]
    clock: Callable[[], float] = time.time
    _under_way: set[Key] = field(default_factory=set)

    async def carry_out(self, plan: Plan, namespace: str) -> Refusal | None:
        """Raises ClusterError where the API server does not answer.

        Without a mark weights are kept, which is no reason not to fetch them.
        """
        refusals = [refusal for mark in plan.marks if (refusal := await self.mark(mark))]
        if refusals:
            plan = without_marks(plan, refusals[0], int(self.clock()))
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

    async def mark(self, mark: Mark) -> Refusal | None:
        """What is not there needs no mark."""
        key = Key(mark.kind, mark.namespace, mark.name)
        try:
            answer = await self.cluster.mark(mark)
        except NotFoundError as error:
            logger.info("%s is not marked: %s", key, error)
            return None
        except RefusedError as error:
            logger.warning("%s is not marked: %s", key, error)
            return Refusal(f"{mark.kind} {mark.name!r}", error.status, error.message)
        if self.cache.has(key):  # a claim of somebody else's is not followed
            self.touch(self.cache.upsert(mark.kind, answer))
        return None


def _written(apply: Apply) -> str:
    return f"{apply.kind} {apply.manifest['metadata']['name']!r}"
