"""Passes over caches of weights: what nobody wants for a while is taken away, and what cannot be is told.

No variant is left to tell it by a condition. So an event stands on the claim, or on the record where there is
none, when it begins, each hour while it lasts, and when it is over; a metric counts the caches that it is
about. Nothing is given up: each is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Never

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_FETCHED, LABEL_WEIGHTS
from roundhouse_operator.core.kinds import CONFIG_MAP, VOLUME_CLAIM, Key
from roundhouse_operator.core.observed import Store
from roundhouse_operator.core.plan import Mark, Plan
from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage
from roundhouse_operator.core.weights.mark import read_mark, unmark
from roundhouse_operator.core.weights.sweep import (
    AGAIN_SECONDS,
    failed_sweep,
    mark_unwanted,
    mark_wanted,
    plan_sweep,
    swept_claim,
    unwanted_since,
)
from roundhouse_operator.errors import ClusterError, NotFoundError, RefusedError
from roundhouse_operator.fetching import Fetching
from roundhouse_operator.queue import RetryError
from roundhouse_operator.recorder import Regarded, Transition

logger = logging.getLogger(__name__)

TOLD_AGAIN_SECONDS: Final = 3600
"""An event lasts for an hour, unless the API server is told otherwise."""
UNHEARD_SECONDS: Final = 600
"""After which it is no start any more that keeps somebody from saying what it wants."""


@dataclass(slots=True)
class Failing:
    """A cache that cannot be taken away, as it was last told."""

    on: Regarded
    why: str
    at: float


@dataclass(slots=True)
class Sweeping:
    """`later` takes keys that are to be looked at again by then."""

    fetching: Fetching
    tell: Callable[[Regarded, Transition], None]
    later: Callable[[Key, float], None]
    loader: LoaderImage = UNTOLD
    """What removes weights from claims of others."""
    grace_seconds: float = 0.0
    """How long weights are kept that nobody wants: a variant that is replaced or renamed wants them again."""
    clock: Callable[[], float] = time.time
    failing: dict[Key, Failing] = field(default_factory=dict)
    waiting: dict[Key, float] = field(default_factory=dict)
    """Since when for somebody who has not said what it wants."""

    async def __call__(self, key: Key) -> None:
        """RetryError while it is unknown who wants them, or where something is refused."""
        cache = self.fetching.cache
        store = cache.store(key)
        if store is None:
            self._over(key, "It is gone")
            return
        if store.wanted:
            self._over(key, "It is wanted again")
            await self.fetching.carry_out(mark_wanted(key.namespace, key.name, store), key.namespace)
            return
        await self._check_heard(key, store)
        if (left := await self._grace_left(key, store) or await self._rest_left(key, store)) > 0:
            self.later(key, left)
            return
        name = swept_claim(key.name, store)
        try:
            claim = await self._claim(key, name) if name else None
        except RefusedError as error:
            await self._give_up(
                key, store, f"PersistentVolumeClaim {name!r} may not be read: {error.message}"
            )
        store = cache.store(key)
        if store is None or store.wanted:
            return  # who has come to want it meanwhile has given it another pass
        await self._check_heard(key, store)
        if swept_claim(key.name, store) != name:
            raise RetryError("its record has changed meanwhile")
        marks = (claim["metadata"].get("annotations") or {}) if claim else {}
        # Whether a Job of ours has made the directory that would be removed, and from where it can be.
        marked = read_mark(marks, store.key)
        if claim and name and await self._mends_mark(key, store, name, marked=marked is not None):
            return
        await self._take_away(key, store, plan_sweep(key.namespace, key.name, store, self.loader, marked))

    async def _mends_mark(self, key: Key, store: Store, claim: str, *, marked: bool) -> bool:
        """Whether a refused mark keeps the claim from saying what it should: nothing goes before it does."""
        refused = store.record.refused if store.record else None
        if refused is None or refused.wanted is marked:
            return False
        if marked:  # they were there before, and are not ours to remove
            await self._mark(key, store, (unmark(key.namespace, claim, store.key),))
            self.later(key, 0)
        else:
            await self._complain(key, store, _unmarked(claim, store.key, refused.why))
            self.later(key, AGAIN_SECONDS)
        return True

    async def _check_heard(self, key: Key, store: Store) -> None:
        unheard = self.fetching.cache.wants.unheard(key.namespace)
        if not unheard:
            self.waiting.pop(key, None)
            return
        why = f"it is not known yet which weights {min(unheard, key=str)} wants"
        if self.clock() - self.waiting.setdefault(key, self.clock()) >= UNHEARD_SECONDS:
            await self._complain(key, store, why)
        raise RetryError(why)

    async def _take_away(self, key: Key, store: Store, plan: Plan) -> None:
        """What is no longer marked goes last: without it nobody would know what is left to do."""
        await self._mark(key, store, plan.marks)
        rest = Plan(applies=plan.applies, deletes=plan.deletes)
        if refusal := await self.fetching.carry_out(rest, key.namespace):
            await self._give_up(key, store, f"{refusal.child} is refused: {refusal.message}")

    async def _rest_left(self, key: Key, store: Store) -> float:
        """Until a sweep that failed is tried again."""
        failed_at, why = failed_sweep(store)
        if not failed_at:
            return 0
        await self._complain(key, store, f"the Job that removes it failed, and is made again: {why}")
        return failed_at + AGAIN_SECONDS - self.clock()

    async def _grace_left(self, key: Key, store: Store) -> float:
        """Counted from what is written down, which is done where nothing is; no time begins in the future."""
        if self.grace_seconds <= 0:
            return 0
        now, since = self.clock(), unwanted_since(store)
        if not since or since > now:
            at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            await self._mark(key, store, mark_unwanted(key.namespace, key.name, store, at).marks)
            return self.grace_seconds
        return since + self.grace_seconds - now

    async def _mark(self, key: Key, store: Store, marks: tuple[Mark, ...]) -> None:
        for mark in marks:
            if refusal := await self.fetching.mark(mark):
                why = f"{refusal.child} may not be annotated, allow `patch` of it: {refusal.message}"
                await self._give_up(key, store, why)

    async def _claim(self, key: Key, name: str) -> Manifest | None:
        try:
            return await self.fetching.cluster.get_metadata(VOLUME_CLAIM, key.namespace, name)
        except NotFoundError:
            return None

    async def _give_up(self, key: Key, store: Store, why: str) -> Never:
        """For now."""
        await self._complain(key, store, why)
        raise RetryError(why)

    async def _complain(self, key: Key, store: Store, why: str) -> None:
        words = f"Weights {store.key!r}, which nobody wants, are not removed: {why}"
        known, now = self.failing.get(key), self.clock()
        if known and known.why == words and now - known.at < TOLD_AGAIN_SECONDS:
            return
        logger.warning("%s: %s", key, words, extra={"reason": Reason.CACHE_NOT_SWEPT})
        on = await self._regarded(key, store)
        self.failing[key] = Failing(on, words, now)
        self.tell(on, Transition(Reason.CACHE_NOT_SWEPT, words, normal=False))

    async def _regarded(self, key: Key, store: Store) -> Regarded:
        """What a person looks at who wonders why a volume is full."""
        if store.claim:
            return Regarded(VOLUME_CLAIM, key.namespace, store.claim.name, store.claim.uid)
        name = swept_claim(key.name, store)
        claim = None
        with suppress(ClusterError):
            claim = await self._claim(key, name) if name else None
        if name and claim is not None:
            return Regarded(VOLUME_CLAIM, key.namespace, name, claim["metadata"]["uid"])
        return Regarded(CONFIG_MAP, key.namespace, key.name, store.record.uid if store.record else "")

    def _over(self, key: Key, why: str) -> None:
        self.waiting.pop(key, None)
        known = self.failing.pop(key, None)
        if known:
            self.tell(known.on, Transition(Reason.CACHE_NOT_SWEPT, f"Over: {why}", normal=True))


def _unmarked(claim: str, key: str, why: str) -> str:
    return (
        f"PersistentVolumeClaim {claim!r} could not be annotated when they were fetched ({why}): give it the "
        f"annotation `{ANNOTATION_FETCHED}{key}: '{{}}'`; or keep them, and delete the ConfigMap that is "
        f"labelled `{LABEL_WEIGHTS}={key}`"
    )
