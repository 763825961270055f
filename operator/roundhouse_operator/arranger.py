"""The part of an engine's pass that is about pods which hold several variants: carry out, and make known.

What is to be done is decided in `core.shared`. Each pass takes one step; what it wrote brings the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import POD, Key
from roundhouse_operator.core.outcome import DONE, Outcome
from roundhouse_operator.core.plan import Plan
from roundhouse_operator.core.shared import Arrangement, EngineWorld, PodPatch, arrange
from roundhouse_operator.core.weights.asked import Answers
from roundhouse_operator.errors import ConflictError, NotFoundError
from roundhouse_operator.lookups import Lookups
from roundhouse_operator.refusals import AGAIN_SECONDS, Refusals

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arranger:
    """`hurry` is called when engines will soon have something to tell."""

    cluster: Cluster
    cache: Cache
    touch: Callable[[Touched], None]
    hurry: Callable[[], None]
    carry_out: Callable[[Plan, Key], Awaitable[Outcome]]
    lookups: Lookups
    refusals: Refusals

    async def arrange(self, key: Key, api_hosts: frozenset[str]) -> tuple[Arrangement | None, Outcome]:
        """None: the engine's variants have pods of their own."""
        world = self.cache.engine_world(key, int(time.time()))
        if world is None:
            self.forget(key)
            return None, DONE
        world = await self.refusals.look_at_shared(said := world)
        arrangement = await self._arranged(world, api_hosts)
        if _refused(world) != _refused(said):
            # A ReplicaSet that refuses nothing yet may do so in a moment.
            arrangement = replace(arrangement, again_seconds=AGAIN_SECONDS)
        self.touch(self.cache.want(key, arrangement.weights))
        outcome = await self.carry_out(arrangement.plan, key)
        if outcome.refusal is None:
            for patch in arrangement.patches:
                await self._mark(key.namespace, patch)
        arrangement = arrangement.refused(outcome.refusal)
        self._tell(key, arrangement)
        return arrangement, outcome

    async def _arranged(self, world: EngineWorld, api_hosts: frozenset[str]) -> Arrangement:
        """Decided once more where the first time it had to know of objects that nobody watches."""
        arrangement = arrange(world, api_hosts=api_hosts)
        if not arrangement.asks:
            return arrangement
        answers = await self.lookups.answers(world.engine.namespace, arrangement.asks)
        fresh = await self.refusals.look_at_shared(self._fresh(world, answers))
        return arrange(fresh, api_hosts=api_hosts)

    def _fresh(self, world: EngineWorld, answers: Answers) -> EngineWorld:
        """Much may have changed while something was looked up."""
        return replace(self.cache.engine_world(world.engine.key, world.now) or world, answers=answers)

    def forget(self, key: Key) -> None:
        """The engine is gone, or shares no pods."""
        self.touch(self.cache.want(key, frozenset()))
        self._tell(key, Arrangement())

    def _tell(self, engine: Key, arrangement: Arrangement) -> None:
        """How variants stand in the engine's pods, and of which pods news are expected."""
        standing = self.cache.standing
        self.touch(Touched(now=standing.put_seats(engine, arrangement.seats, arrangement.members)))
        pods = (Key(POD, engine.namespace, name) for name in arrangement.unsettled)
        if standing.hurry(engine, pods) or not arrangement.plan.empty:
            self.hurry()

    async def _mark(self, namespace: str, patch: PodPatch) -> None:
        """A pod that is gone or was made anew meanwhile is looked at when its own news comes."""
        try:
            if patch.labels or patch.annotations:
                marks = {"labels": dict(patch.labels), "annotations": dict(patch.annotations)}
                body: Manifest = {"metadata": {"uid": patch.uid, **marks}}
                self._again(await self.cluster.patch_pod(namespace, patch.name, body))
            if patch.loaded:
                gate = {"type": names.READINESS_GATE_LOADED, "status": "True"}
                self._again(await self.cluster.patch_pod_condition(namespace, patch.name, gate))
        except (NotFoundError, ConflictError) as error:
            logger.info("Pod %s/%s was not marked: %s", namespace, patch.name, error)

    def _again(self, pod: Manifest) -> None:
        """Another pass takes the next step, if this one has changed something."""
        self.touch(self.cache.upsert(POD, pod))


def _refused(world: EngineWorld) -> set[str]:
    """Deployments whose pods cannot be created."""
    return {name for name, one in world.rollouts.items() if one.refused is not None}
