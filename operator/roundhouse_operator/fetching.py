"""The writes that bring weights into their caches and out of them again.

What is to be written is decided in the core, once for each variant that wants the same weights; here it is
seen to that two passes at once do not make the same Job twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import VOLUME_CLAIM, Key
from roundhouse_operator.core.observed import Store
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.plan import Apply, Mark, Plan
from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage
from roundhouse_operator.core.weights.mark import Nodes, read_mark
from roundhouse_operator.core.weights.sweep import (
    AGAIN_SECONDS,
    failed_sweep,
    mark_unwanted,
    mark_wanted,
    plan_sweep,
    swept_claim,
    unwanted_since,
)
from roundhouse_operator.errors import NotFoundError, RefusedError
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
    clock: Callable[[], float] = time.time
    _under_way: set[Key] = field(default_factory=set)

    async def carry_out(self, plan: Plan, namespace: str) -> Refusal | None:
        """Raises ClusterError where the API server does not answer."""
        for mark in plan.marks:
            await self._mark(mark)
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

    async def _mark(self, mark: Mark) -> bool:
        """False: it is refused. Without a mark weights are kept, which is no reason not to fetch them."""
        key = Key(mark.kind, mark.namespace, mark.name)
        try:
            answer = await self.cluster.mark(mark)
        except (NotFoundError, RefusedError) as error:
            logger.warning("%s is not marked: %s", key, error)
            return isinstance(error, NotFoundError)
        if self.cache.has(key):  # a claim of somebody else's is not followed
            self.touch(self.cache.upsert(mark.kind, answer))
        return True

    async def sweep(self, key: Key) -> None:
        """A pass over a cache: takes away what nobody wants for a while; RetryError while that is unknown."""
        store = self.cache.store(key)
        if store is None:
            return
        if store.wanted:
            await self.carry_out(mark_wanted(key.namespace, key.name, store), key.namespace)
            return
        self._check_heard(key)
        if (left := await self._grace_left(key, store) or self._rest_left(key, store)) > 0:
            self.later(key, left)
            return
        marked, claim = await self._marked(key, store), swept_claim(key.name, store)
        store = self.cache.store(key)
        if store is None or store.wanted:
            return  # who has come to want it meanwhile has given it another pass
        self._check_heard(key)
        if swept_claim(key.name, store) != claim:
            raise RetryError("its record has changed meanwhile")
        await self._take_away(key, plan_sweep(key.namespace, key.name, store, self.loader, marked))

    def _check_heard(self, key: Key) -> None:
        if not self.cache.wants.heard_all(key.namespace):
            raise RetryError("not every variant has said yet which weights it wants")

    async def _take_away(self, key: Key, plan: Plan) -> None:
        """What is no longer marked goes last: without it nobody would know what is left to do."""
        for mark in plan.marks:
            if not await self._mark(mark):
                raise RetryError(f"{mark.kind} {mark.name!r} may not be changed; allow `patch` of it")
        if refusal := await self.carry_out(replace(plan, marks=()), key.namespace):
            logger.warning("%s is kept: %s is refused: %s", key, refusal.child, refusal.message)
            raise RetryError(refusal.message)

    def _rest_left(self, key: Key, store: Store) -> float:
        """Until a sweep that failed is tried again."""
        failed_at, why = failed_sweep(store)
        if not failed_at:
            return 0
        logger.warning("%s: what nobody wants could not be removed, and is tried again: %s", key, why)
        return failed_at + AGAIN_SECONDS - self.clock()

    async def _grace_left(self, key: Key, store: Store) -> float:
        """Counted from what is written down, which is done where nothing is; no time begins in the future."""
        if self.grace_seconds <= 0:
            return 0
        now, since = self.clock(), unwanted_since(store)
        if not since or since > now:
            at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            await self.carry_out(mark_unwanted(key.namespace, key.name, store, at), key.namespace)
            return self.grace_seconds
        return since + self.grace_seconds - now

    async def _marked(self, key: Key, store: Store) -> Nodes | None:
        """Whether a Job of ours has made the directory that a sweep would remove, and from where."""
        claim = swept_claim(key.name, store)
        if claim is None:
            return None
        try:
            manifest = await self.cluster.get_metadata(VOLUME_CLAIM, key.namespace, claim)
        except NotFoundError:
            return None
        return read_mark(manifest["metadata"].get("annotations") or {}, store.key)


def _written(apply: Apply) -> str:
    return f"{apply.kind} {apply.manifest['metadata']['name']!r}"
