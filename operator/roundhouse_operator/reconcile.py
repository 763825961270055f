"""A pass over one resource: observe, decide, apply, write the status.

The same pass stands behind every event, resync and retry, and a second one after it writes nothing. What
is decided is pure and in `core`; what the API server answers becomes an `Outcome` for the status to tell.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_RESTARTED_AT
from roundhouse_operator.arranger import Arranger
from roundhouse_operator.authorities import Authorities
from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core import credentials
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.judging import kept
from roundhouse_operator.core.kinds import ENGINE, STORE, VARIANT, Key
from roundhouse_operator.core.observed import Engine, Invalid, Resource, World
from roundhouse_operator.core.outcome import Outcome, Refusal
from roundhouse_operator.core.status.conditions import status_patch
from roundhouse_operator.core.status.ending import ending_status
from roundhouse_operator.core.status.engine import engine_status
from roundhouse_operator.core.status.incident import Incident, incident_status
from roundhouse_operator.core.status.shared import told_of
from roundhouse_operator.core.status.unserved import unserved_status
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.core.weights.asked import Ask
from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage
from roundhouse_operator.core.weights.supply import Supply
from roundhouse_operator.departures import Departures
from roundhouse_operator.errors import ClusterError, NotFoundError, OwnerGoneError, ThrottledError
from roundhouse_operator.execution import Execution
from roundhouse_operator.fetching import Fetching
from roundhouse_operator.incidents import incident_of
from roundhouse_operator.logs import concerning
from roundhouse_operator.lookups import Lookups
from roundhouse_operator.queue import RetryError
from roundhouse_operator.recorder import Recorder
from roundhouse_operator.refusals import AGAIN_SECONDS, Refusals
from roundhouse_operator.scaler import Aim
from roundhouse_operator.sweeping import Sweeping
from roundhouse_operator.verifier import Verifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """`clock` gives the time as the API server writes it; `touch` takes the keys that a write concerns."""

    cluster: Cluster
    cache: Cache
    recorder: Recorder
    clock: Callable[[], str]
    touch: Callable[[Touched], None]
    verifier: Verifier
    api_hosts: frozenset[str] = frozenset()
    loader: LoaderImage = UNTOLD
    later: Callable[[Key, float], None] = lambda _key, _seconds: None
    """Takes keys that are to be looked at again by then, although nobody reports a change."""
    follow: Callable[[Key, Aim | None], None] = lambda _key, _aim: None
    """Our scaler's: what it is to aim at, after each pass over a variant."""
    hurry: Callable[[], None] = lambda: None
    """Called when engines will soon have something to tell."""
    sweep_after_seconds: float = 0.0
    """How long weights are kept that nobody wants."""
    deaf: Callable[[], bool | None] = lambda: None
    """Whether the gateways' load is not known; None while that cannot be said."""
    authorities: Authorities | None = None
    """What tells loaders of authorities; None: nobody does."""
    lookups: Lookups = field(init=False)
    fetching: Fetching = field(init=False)
    sweeping: Sweeping = field(init=False)
    departures: Departures = field(init=False)
    refusals: Refusals = field(init=False)
    arranger: Arranger = field(init=False)
    execution: Execution = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookups", Lookups(self.cluster))
        object.__setattr__(self, "departures", Departures(self.cluster))
        object.__setattr__(self, "refusals", Refusals(self.cluster))
        fetching = Fetching(self.cluster, self.cache, self.touch)
        object.__setattr__(self, "fetching", fetching)
        sweeping = Sweeping(fetching, self.recorder.note, self.later, self.loader, self.sweep_after_seconds)
        object.__setattr__(self, "sweeping", sweeping)
        execution = Execution(self.cluster, self.cache, self.touch)
        object.__setattr__(self, "execution", execution)
        again = partial(execution.carry_out, again=True)
        asking = self.lookups, self.refusals
        arranger = Arranger(self.cluster, self.cache, self.touch, self.hurry, again, *asking)
        object.__setattr__(self, "arranger", arranger)

    async def __call__(self, key: Key) -> None:
        """Raises RetryError where another pass is to follow by itself."""
        concerning(key)
        try:
            if key.kind == VARIANT:
                await self._variant(key)
            elif key.kind == ENGINE:
                await self._engine(key)
            elif key.kind == STORE:
                await self.sweeping(key)
            else:
                await self._unserved(key)
        except OwnerGoneError as error:
            logger.info("Nothing is made: %s", error)
        except ClusterError as error:
            after = error.after_seconds if isinstance(error, ThrottledError) else 0.0
            raise RetryError(str(error), after) from error
        except RetryError:
            raise
        except Exception as error:
            incident = incident_of(error)
            logger.exception("%s: incident %s", key, incident.number, extra={"reason": Reason.INTERNAL_ERROR})
            await self._confess(key, incident)
            raise RetryError(incident.message) from error

    async def _confess(self, key: Key, incident: Incident) -> None:
        resource = self.cache.resource(key)
        if resource is not None and not resource.ending:
            try:
                await self._write_status(resource, incident_status(resource, incident, now=self.clock()))
            except ClusterError as error:
                logger.warning("%s: %s", key, error, extra={"reason": type(error).__name__})
        unheard = key.kind == VARIANT and key in self.cache.wants.unheard(key.namespace)
        if unheard and (world := self.cache.world(key)) is not None:
            self.touch(self.cache.want(key, kept(world)))  # no other variant's weights wait for its mending

    async def _variant(self, key: Key) -> None:
        world = self.cache.world(key, int(time.time()))
        if world is None or world.variant.ending:
            self.verifier.forget(key)
            self.follow(key, None)
            if world is not None:  # its pods may read weights for as long as a finalizer holds it
                self.touch(self.cache.want(key, kept(world)))
                await self._write_status(world.variant, ending_status(world, now=self.clock()))
            return  # its children go with it, and must not come back meanwhile
        world = replace(world, deaf=self.deaf())
        world, decision = await self._decide(await self.verifier.look(world))
        chosen = decision.choice.engine if decision.choice else None
        self.touch(self.cache.choose(key, chosen.key if chosen else None))
        self.touch(self.cache.want(key, decision.stores))
        supply = decision.supply
        try:
            refused = await self._fetch(supply, decision, key.namespace) if supply else None
            await self.departures.prepare(world, decision.plan)
            outcome = await self.execution.carry_out(decision.plan, key)
        except ClusterError as error:
            if not world.variant.status:
                await self._seed(world, decision, error)
            raise
        outcome = replace(outcome, cache_refusal=refused)
        if not decision.plan.empty:
            world = self._written(world)
        world = await self._refused(world)
        # Until somebody has looked at the pods of an engine that it shares, what is told stands.
        if not (decision.shares and world.seat is None and world.variant.status):
            status = variant_status(world, decision, outcome, now=self.clock())
            await self._write_status(world.variant, status)
        await self.verifier.go_on(world, decision)
        self.follow(key, self._aim(key, world, decision))
        if refusal := outcome.refusal or refused:
            raise RetryError(refusal.message)
        if decision.revisit_seconds:
            self.later(key, decision.revisit_seconds)

    async def _refused(self, world: World) -> World:
        """Looked at again where the Deployment says more than the ReplicaSet that it has now."""
        seen = await self.refusals.look(world)
        if seen.rollout != world.rollout and seen.rollout and seen.rollout.refused is None:
            self.later(world.variant.key, AGAIN_SECONDS)
        return seen

    async def _fetch(self, supply: Supply, decision: Decision, namespace: str) -> Refusal | None:
        """With what loaders are told before any of them starts."""
        loads = decision.intent is not None and decision.intent.delivery.loads
        untold = await self.authorities.ensure(namespace) if self.authorities and loads else None
        return await self.fetching.carry_out(supply.plan, namespace) or untold

    async def _decide(self, world: World) -> tuple[World, Decision]:
        """Decided once more where the first time it had to know of objects that nobody watches."""
        decision = self._judge(world)
        asks: frozenset[Ask] = frozenset()
        while decision.supply and not decision.supply.asks <= asks:
            asks |= decision.supply.asks
            world = replace(world, answers=await self.lookups.answers(world.variant.namespace, asks))
            decision = self._judge(world)
        return world, decision

    def _judge(self, world: World) -> Decision:
        """Whose turn it is may have changed while something was looked up."""
        world = replace(world, line=self.cache.line(world.variant.key))
        return decide(world, api_hosts=self.api_hosts, loader=self.loader)

    def _aim(self, key: Key, world: World, decision: Decision) -> Aim | None:
        """With `replicas` and version of the same moment: a write over a newer version is refused."""
        variant = self.cache.resource(key) if decision.scaling else None
        if variant is None or decision.scaling is None or isinstance(variant.spec, Invalid):
            return None
        seat, rollout = world.seat, world.rollout
        ready = bool(seat.ready if seat else rollout and rollout.ready)
        return Aim(decision.scaling, variant.spec.replicas, ready, self.cache.version(key))

    async def _seed(self, world: World, decision: Decision, error: ClusterError) -> None:
        """A first pass that fails leaves a status, so that no variant is shown without a word."""
        world = self._written(world)
        status = variant_status(world, decision, Outcome(failure=str(error)), now=self.clock())
        await self._write_status(world.variant, status)

    def _written(self, world: World) -> World:
        """With what came back from the writes. The variant stays the one that was decided about.

        It may have been edited meanwhile: of that edit nothing has been decided, and nothing may be told.
        """
        fresh = self.cache.world(world.variant.key, world.now)
        return replace(fresh, variant=world.variant, deaf=world.deaf) if fresh else world

    async def _engine(self, key: Key) -> None:
        engine = self.cache.resource(key)
        if engine is None or engine.ending:
            self.arranger.forget(key)
            return
        arrangement, outcome = await self.arranger.arrange(key, self.api_hosts)
        if arrangement and arrangement.again_seconds:
            self.later(key, arrangement.again_seconds)
        if arrangement and not arrangement.complete and engine.status and not outcome.refusal:
            return  # until every pod was asked, what is told stands
        credential = await self._credential(engine)
        status = engine_status(
            engine,
            self.cache.usage(key),
            self.cache.fleet,
            now=self.clock(),
            api_hosts=self.api_hosts,
            stand=self.cache.stand(key, engine.generation),
            shared=told_of(engine, arrangement, outcome) if arrangement else None,
            credential=credential,
        )
        await self._write_status(engine, status)
        if outcome.refusal:
            raise RetryError(outcome.refusal.message)

    async def _credential(self, engine: Engine) -> Trouble | None:
        """Looked at again by and by, because nobody watches Secrets."""
        asks = credentials.asked_of(engine)
        if not asks:
            return None
        self.later(engine.key, credentials.REVISIT_SECONDS)
        return credentials.refuse_credentials(await self.lookups.answers(engine.namespace, asks), asks)

    async def _unserved(self, key: Key) -> None:
        resource = self.cache.resource(key)
        if resource is not None:
            await self._write_status(
                resource, unserved_status(resource, self.cache.award(key), now=self.clock())
            )

    async def _write_status(self, resource: Resource[Any], status: Manifest) -> None:
        patch = status_patch(resource.status, status)
        if not patch:
            return
        # With its uid, a resource that was made anew under this name does not get the old one's status.
        body = {"metadata": {"uid": resource.uid}, "status": patch}
        key = resource.key
        try:
            answer = await self.cluster.patch_status(key.kind, key.namespace, key.name, body)
        except NotFoundError:
            self.touch(self.cache.forget(key))
            return
        touched = self.cache.upsert(key.kind, answer)
        if not _edited(resource, answer):
            touched.now.discard(key)
        self.touch(touched)
        self.recorder.tell(resource, resource.status, status)


def _edited(before: Resource[Any], answer: Manifest) -> bool:
    """Whether somebody changed the resource while the pass went on, which its answer then carries too.

    The watch will report that change as one that is known already: another pass has to see to it.
    """
    metadata = answer["metadata"]
    return (
        metadata.get("generation", 0) != before.generation
        or (metadata.get("labels") or {}) != before.labels
        or (metadata.get("annotations") or {}).get(ANNOTATION_RESTARTED_AT, "") != before.restarted_at
        or ("deletionTimestamp" in metadata) != before.ending
    )
