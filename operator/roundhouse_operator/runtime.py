"""The running operator: who starts when, and in which order all of it ends.

Health first, so that a start can be watched; then caches, which followers keep warm too; then the Lease;
and only behind the Lease the workers, which are all that writes. kopf is imported on the side, because
that takes seconds. Whatever ends unasked ends all: its successor starts from a clean slate, see `lives`.

At the end the workers go first and the Lease behind them, so that a follower need not wait for the rest.
Each step has its time; what hangs is left behind, see `ending`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker
from roundhouse_operator.authorities import Authorities
from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Change, Cluster
from roundhouse_operator.configuration import credentials
from roundhouse_operator.core.kinds import (
    API_KINDS,
    AUTOSCALER,
    CACHE_KINDS,
    CHILD_KINDS,
    CLAIM_KINDS,
    CLAIM_TEMPLATE,
    DEVICE_CLASS,
    NODE,
    POD,
    RESOURCE_SLICE,
    Key,
    Kind,
)
from roundhouse_operator.ending import end, stop_on_signals
from roundhouse_operator.engines import EngineReader
from roundhouse_operator.gateways import Gateways
from roundhouse_operator.health import Health
from roundhouse_operator.hearing import Hearing
from roundhouse_operator.intake import Intake
from roundhouse_operator.leader import Election, LeadershipLostError
from roundhouse_operator.metrics import Metrics, Present
from roundhouse_operator.progress import ProgressPoller
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.recorder import Recorder
from roundhouse_operator.scaler import Scaler
from roundhouse_operator.settings import Settings
from roundhouse_operator.tally import Tally
from roundhouse_operator.verifier import Verifier
from roundhouse_operator.watch import Listed, Scope, Source, follow, resync

logger = logging.getLogger(__name__)

MANAGED: Final = f"{names.LABEL_MANAGED}=true"
OF_WEIGHTS: Final = f"{MANAGED},{names.LABEL_WEIGHTS}"
STOP_SECONDS: Final = 3.0
"""For each step of an end."""


class Operator:
    """Everything of one process, joined."""

    def __init__(self, settings: Settings, cluster: Cluster, metrics: Metrics, api_host: str) -> None:
        identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self.settings = settings
        self.cluster = cluster
        self.tally = Tally(metrics.became_ready)
        self.cache = Cache(settings.field_manager, self.tally)
        self.intake = Intake(metrics.unread)
        self.queue: WorkQueue[Key] = WorkQueue(
            observe=lambda key, seconds, ok: metrics.passed(key.kind.name, seconds, succeeded=ok)
        )
        self.recorder = Recorder(cluster, identity)
        own, lasts = settings.namespace, settings.lease_seconds
        self.election = Election(cluster, own, settings.lease, identity, lasts)
        cluster.fence = self.election.check
        self.verifier = Verifier(cluster, self.cache, self.queue.add, Asker(), metrics.waited_for_tests)
        self.scaler = Scaler(cluster, metrics.scaled)
        self.gateways = Gateways(
            cluster, settings.namespace, settings.release, self.scaler.loads, self.intake
        )
        self.hearing = Hearing(self.scaler.loads, self._on_hearing)
        self.engines = EngineReader(self.cache.standing, self.on_report)
        self.reconciler = Reconciler(
            cluster,
            self.cache,
            self.recorder,
            _timestamp,
            self.touch,
            self.verifier,
            frozenset({api_host}),
            settings.loader,
            self.queue.add_in,
            self.scaler.follow,
            self.engines.hurry,
            settings.sweep_after_seconds,
            lambda: self.hearing.deaf,
            Authorities(cluster, settings.authorities, settings.loader_ca_certificates),
        )
        self.progress = ProgressPoller(self.cache, self.touch)
        spaces = settings.served_namespaces or (None,)
        self._resynced = [self._source(Scope(kind, space)) for kind in API_KINDS for space in spaces]
        self._followed = [
            self._source(Scope(kind, space, MANAGED)) for kind in (*CHILD_KINDS, POD) for space in spaces
        ]
        self._followed += [
            self._source(Scope(kind, space, OF_WEIGHTS))
            for kind in CACHE_KINDS
            if kind not in CHILD_KINDS  # which are all followed already
            for space in spaces
        ]
        self._followed += [self._source(Scope(kind, None)) for kind in (NODE, DEVICE_CLASS, RESOURCE_SLICE)]
        self._followed += [self._autoscalers(space) for space in spaces]
        self._sources = sources = [*self._resynced, *self._followed]
        self.health = Health(metrics, self.queue, sources)
        told = (lambda: self.health.leading, lambda: len(self.reconciler.sweeping.failing))
        metrics.show(Present(self.queue, self.cache, self.tally, sources, *told))
        metrics.tell_gateways(self.scaler.loads, _now)

    def _source(self, scope: Scope) -> Source:
        # Claims cannot be made without their templates: whether those are served says it all.
        told = self.on_claims_served if scope.kind == CLAIM_TEMPLATE else lambda _served: None
        on_served = told if scope.kind in CLAIM_KINDS else None
        return self._follow(scope, self.on_change, self.on_listed, on_served)

    def _autoscalers(self, space: str | None) -> Source:
        scope = Scope(AUTOSCALER, space)
        return self._follow(scope, self.on_autoscaler, self.on_autoscalers)

    def _follow(
        self,
        scope: Scope,
        on_change: Callable[[Kind, Change], None],
        on_listed: Callable[[Scope, Listed], None],
        on_served: Callable[[bool], None] | None = None,
    ) -> Source:
        hurry = self.queue.hurry
        return Source(self.cluster, scope, on_change, on_listed, hurry, on_served, self.intake)

    def on_autoscaler(self, _kind: Kind, change: Change) -> None:
        known, metadata = self.cache.autoscalers, change.manifest["metadata"]
        if change.type == "DELETED":
            self.touch(Touched(now=known.drop((metadata["namespace"], metadata["name"]))))
        else:
            self.touch(Touched(now=known.take(change.manifest)))

    def on_autoscalers(self, scope: Scope, listed: Listed) -> None:
        self.touch(Touched(now=self.cache.autoscalers.keep(scope.namespace, listed.names)))

    def touch(self, touched: Touched) -> None:
        for key in touched.now:
            self.queue.add(key)
        for key in touched.soon:
            self.queue.add_soon(key)

    def on_claims_served(self, served: bool) -> None:
        self.touch(self.cache.serve_claims(served=served))

    def on_change(self, kind: Kind, change: Change) -> None:
        take = self.cache.remove if change.type == "DELETED" else self.cache.upsert
        self.touch(take(kind, change.manifest))

    def _on_hearing(self) -> None:
        """What is told of all that is scaled by demand is another now."""
        for key in self.scaler.followed:
            self.queue.add_soon(key)

    def on_report(self, pod: Key) -> None:
        """An engine said something new, or was silent for the first time."""
        self.touch(self.cache.reported(pod))

    def on_listed(self, scope: Scope, listed: Listed) -> None:
        self.touch(self.cache.keep(scope.kind, scope.namespace, listed.names, int(listed.version)))

    def on_event(self, kind: Kind, type_: str | None, manifest: Manifest) -> None:
        """From kopf; no type says that it has listed anew."""
        if type_ is None:
            for source in self._resynced:
                if source.scope.kind == kind:
                    source.nudged.set()
        self.intake.take(
            self.on_change, kind, Change("DELETED" if type_ == "DELETED" else "MODIFIED", manifest)
        )

    async def run(self, stop: asyncio.Event, on_end: Callable[[], None]) -> None:
        """Until `stop` is set; raises what ended it otherwise. `on_end` is told that the end begins."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        leading = asyncio.create_task(self._lead(), name="leader")
        serving = [
            asyncio.create_task(self.health.serve(self.settings.metrics_port), name="health"),
            *(asyncio.create_task(follow(one), name=f"follow {one.scope}") for one in self._followed),
            *(asyncio.create_task(resync(one), name=f"list {one.scope}") for one in self._resynced),
        ]
        kopf_stop = asyncio.Event()
        kopf = asyncio.create_task(self._watch_api(stop, kopf_stop), name="kopf")
        try:
            ended, _ = await asyncio.wait(
                [stopping, leading, *serving, kopf], return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                task.result()
        finally:
            on_end()
            await self._end(leading, [*serving, stopping], kopf, kopf_stop)

    async def _lead(self) -> None:
        await asyncio.gather(*(one.listed.wait() for one in (*self._resynced, *self._followed)))
        await self.election.acquire()
        self.health.leading = self.tally.timing = True
        self._sources.append(self.gateways.source)  # which nobody follows who does not lead
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.election.hold(), name="election")
                group.create_task(self.recorder.run(), name="recorder")
                group.create_task(self.verifier.run(), name="verifier")
                group.create_task(self.progress.run(), name="progress")
                group.create_task(self.gateways.run(), name="gateways")
                group.create_task(self.scaler.run(), name="scaler")
                group.create_task(self.hearing.run(), name="hearing")
                group.create_task(self.engines.run(), name="engines")
                workers = self.queue.run(self.reconciler, workers=self.settings.workers)
                group.create_task(workers, name="queue")
        except ExceptionGroup as failed:
            # Not by `except*`: what is raised there may come wrapped, always so in the images' Python 3.11.2.
            lost = next((one for one in failed.exceptions if isinstance(one, LeadershipLostError)), None)
            if lost is None:
                raise
            raise lost from None
        finally:
            self.health.leading = self.tally.timing = False

    async def _end(
        self,
        leading: asyncio.Task[None],
        others: Iterable[asyncio.Task[Any]],
        kopf: asyncio.Task[None],
        kopf_stop: asyncio.Event,
    ) -> None:
        kopf_stop.set()
        self.election.retire()  # nothing is written behind it, also by a worker that does not end
        await end([leading], STOP_SECONDS)
        await self.election.release()
        await end(others, STOP_SECONDS)
        await asyncio.wait([kopf], timeout=STOP_SECONDS)
        await end([kopf], STOP_SECONDS)

    async def _watch_api(self, stop: asyncio.Event, kopf_stop: asyncio.Event) -> None:
        loading = asyncio.create_task(asyncio.to_thread(_import_handlers))
        await asyncio.gather(*(one.listed.wait() for one in self._resynced))
        handlers = await loading

        def started() -> None:
            stop_on_signals(stop)  # kopf has put its own in their place
            self.health.broken = None

        def ended(error: str) -> None:
            self.health.broken = error

        watch = handlers.ApiWatch(
            on_event=self.on_event,
            served=lambda: self.cluster.serves(API_KINDS),
            credentials=lambda: credentials(self.cluster.configuration),
            namespaces=self.settings.served_namespaces,
            on_start=started,
            on_end=ended,
        )
        await watch.run(kopf_stop)


def _import_handlers() -> ModuleType:
    from roundhouse_operator import handlers  # noqa: PLC0415  # kopf takes seconds

    return handlers


def _now() -> float:
    return asyncio.get_running_loop().time()


def _timestamp() -> str:
    """As the API server writes times: whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
